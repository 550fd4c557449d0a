/* Requests, with a login only if the Sentinel asks for one. The token is kept in memory. */
import { $ } from "./elements.js";
import { changed, state } from "./state.js";
import { encoded } from "./words.js";

export class Unauthorized extends Error {}

export async function request(path, extra, signal) {
	const headers = { Accept: "application/json", ...extra };
	if (state.login) headers.Authorization = state.login;
	// Without credentials the browser neither asks for a password itself nor sends what another page made it remember.
	const response = await fetch(path, { headers, signal, credentials: "omit", cache: "no-cache" });
	if (response.status === 401) {
		askLogin();
		throw new Unauthorized("a login is required");
	}
	if (!response.ok) {
		const problem = await response.json().catch(() => ({}));
		throw new Error(problem.detail || `HTTP status ${response.status}`);
	}
	return response;
}
export const json = async (path) => (await request(path)).json();
export const path = (name, rest) => `v1/masters/${encoded(name)}${rest || ""}`;

export let loginDone = null, loggedIn = Promise.resolve();
function askLogin() {
	if (loginDone) return;
	loggedIn = new Promise((done) => { loginDone = done; });
	state.login = null;
	$("login").showModal();
	$("login-password").focus();
}
const loggedInObservers = [];
export const whenLoggedIn = (observer) => loggedInObservers.push(observer);
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
export async function logIn(event) {
	event.preventDefault();
	const basic = "Basic " + base64(`${$("login-user").value}:${$("login-password").value}`);
	$("login-problem").textContent = "";
	try {
		const response = await fetch("v1/session", { method: "POST", credentials: "omit", headers: { Authorization: basic, "Content-Type": "application/json" }, body: "{}" });
		if (response.ok) state.login = "Bearer " + (await response.json()).token;
		else if (response.status === 404 || response.status === 405) state.login = basic;
		else throw new Error(response.status === 401 ? "The user or the password is wrong." : `Refused with status ${response.status}. Try again later.`);
		$("login-password").value = "";
		$("login").close();
		if (loginDone) loginDone();
		loginDone = null;
		changed();
		loggedInObservers.forEach((observer) => observer());
	} catch (problem) {
		$("login-problem").textContent = problem.message;
	}
}
