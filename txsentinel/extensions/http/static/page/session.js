/* Requests, with a login only if the Sentinel asks for one. The token is kept in memory. */
import { $ } from "./elements.js";
import { changed, state } from "./state.js";

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

/* An order: never sent twice as two orders. Answers with status and body, fails with the problem and its reasons. */
export async function act(method, place, body) {
	const headers = { Accept: "application/json", "Content-Type": "application/json", Authorization: state.login || "" };
	if (method !== "GET") headers["Idempotency-Key"] = [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
	const response = await fetch(place, { method, headers, credentials: "omit", cache: "no-cache", body: method === "GET" ? undefined : JSON.stringify(body || {}) });
	if (response.status === 401) {
		state.login = null;
		openLogin();
	}
	const found = await response.json().catch(() => ({}));
	if (!response.ok) throw Object.assign(new Error(found.detail || `HTTP status ${response.status}`), { reasons: found.reasons });
	return { status: response.status, body: found };
}

export let loginDone = null, loggedIn = Promise.resolve();
function askLogin() {
	if (loginDone) return;
	loggedIn = new Promise((done) => { loginDone = done; });
	state.login = null;
	openLogin();
}
/* Open the dialog, also if nothing requires it. */
export function openLogin() {
	if (!$("login").open) $("login").showModal();
	$("login-password").focus();
}
export async function logOut() {
	const Authorization = state.login;
	Object.assign(state, { login: null, user: null, rights: [] });
	changed();
	await fetch("v1/session", { method: "DELETE", credentials: "omit", headers: { Authorization, "Content-Type": "application/json" } }).catch(() => null);
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
		if (response.ok) {
			const { token, user, rights } = await response.json();
			Object.assign(state, { login: `Bearer ${token}`, user, rights });
		} else throw new Error(response.status === 401 ? "The user or the password is wrong." : `Refused with status ${response.status}. Try again later.`);
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
