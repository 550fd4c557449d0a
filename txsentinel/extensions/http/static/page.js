/* Text from the network becomes text nodes or attributes only, never markup. */
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const MAX_EVENTS = 300, ROW = 44, POLL_MS = 5000;

/* ---- Building elements, and changing those in the document to match: keeps focus, selection and scroll positions. */

function fill(node, classes, children) {
	if (classes.length) node.setAttribute("class", classes.join(" "));
	const first = children[0];
	if (first && typeof first === "object" && !Array.isArray(first) && !(first instanceof Node)) {
		children.shift();
		for (const [name, value] of Object.entries(first)) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
	}
	for (const child of children.flat(Infinity)) {
		if (child !== null && child !== undefined && child !== false && child !== "") node.append(child.nodeType ? child : visible(child));
	}
	return node;
}
/* Bytes that are not UTF-8 are lone surrogates here, as in Python; control characters could hide or reorder text. */
const visible = (text) => String(text).replace(/[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu, (c) => {
	const code = c.charCodeAt(0);
	return code > 255 && code < 0xd800 ? `\\u${code.toString(16)}` : `\\x${two((code & 255).toString(16))}`;
});

/* el("p.class", {attributes}, children…): the attributes may be left out. */
function el(name, ...children) {
	const [tag, ...classes] = name.split(".");
	return fill(document.createElement(tag), classes, children);
}
function svg(name, ...children) {
	const [tag, ...classes] = name.split(".");
	return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, children);
}

function match(old, fresh) {
	if (old.nodeType === Node.TEXT_NODE) {
		if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
		return;
	}
	for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
	for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
	matchChildren(old, [...fresh.childNodes]);
}

function matchChildren(parent, fresh) {
	const focused = document.activeElement;
	const key = (node) => (node.dataset ? node.dataset.key : undefined);
	const keyed = new Map();
	for (const child of parent.childNodes) if (key(child)) keyed.set(key(child), child);
	let cursor = parent.firstChild;
	for (const node of fresh) {
		let found = key(node) ? keyed.get(key(node)) : cursor && !key(cursor) ? cursor : null;
		if (found && found.nodeName !== node.nodeName) found = null;
		if (!found) parent.insertBefore(node, cursor);
		else {
			keyed.delete(key(node));
			if (found === cursor) cursor = cursor.nextSibling;
			else parent.insertBefore(found, cursor);
			match(found, node);
		}
	}
	while (cursor) {
		const next = cursor.nextSibling;
		cursor.remove();
		cursor = next;
	}
	if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
const show = (id, ...children) => matchChildren($(id), [...el("div", children).childNodes]);

/* ---- Words and numbers. */

const count = new Intl.NumberFormat("en").format;
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;
const two = (n) => String(n).padStart(2, "0");
const short = (id) => (id ? id.slice(0, 8) : "");
const at = (text) => (text ? Date.parse(text) : null);

function duration(ms) {
	const s = Math.max(0, Math.floor(ms / 1000));
	if (s < 60) return `${s} s`;
	if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
	if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}
const took = (ms) => (ms === null || ms === undefined ? "–" : ms < 1000 ? `${count(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function bytes(n) {
	if (n === null || n === undefined) return "unknown";
	const units = ["B", "kB", "MB", "GB", "TB", "PB"];
	let i = 0, amount = n;
	while (Math.abs(amount) >= 999.95 && i < units.length - 1) { amount /= 1000; i++; }
	return i ? `${amount.toFixed(1)} ${units[i]}` : `${n} B`;
}
function clock(ms, withDate) {
	const d = new Date(ms), time = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
	return withDate ? `${d.toISOString().slice(0, 10)} ${time}` : time;
}
const today = (ms) => Math.abs(now() - ms) < 20 * 3600e3;
const when = (ms) => el("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toISOString() }, clock(ms, !today(ms)));
const ago = (ms) => el("span.num", { "data-since": ms }, duration(now() - ms));
const left = (ms) => el("span.num", { "data-until": ms }, duration(ms - now()));
const stop = (text) => (text ? text + (/[.!?]$/.test(text) ? "" : ".") : "");
const sentence = (text) => (text ? text[0].toUpperCase() + stop(text.slice(1)) : "");

const VERDICTS = {
	healthy: "up", down_here_only: "down for this Sentinel only", agreed_waiting: "waits to campaign",
	electing: "electing a leader", promoting: "promoting a replica",
	resting: "waits", paused: "failovers are paused", tilt: "TILT: no decisions", storage_failing: "decisions cannot be saved",
	no_replicas: "there is no replica", no_fit_replica: "no replica is fit", majority_unreachable: "no majority of Sentinels can be reached",
	majority_counts_ghosts: "the majority counts lost Sentinels", all_priority_zero: "all replicas have priority 0",
};
const FINE = new Set(["healthy", "switched", "resting"]);
const plainly = (code) => code.replaceAll("_", " ");
const words = (code) => VERDICTS[code] || plainly(code);

const EVENTS = {
	"+sdown": "does not answer this Sentinel", "-sdown": "answers again", "+odown": "is down: the quorum agrees",
	"-odown": "is not down any more", "+new-epoch": "a new epoch began", "+try-failover": "needs a failover",
	"+vote-for-leader": "this Sentinel voted", "+elected-leader": "this Sentinel leads the failover",
	"+selected-slave": "is selected for promotion", "+promoted-slave": "is promoted", "+switch-master": "has a new master",
	"+failover-end": "the failover ended", 
	"+slave-reconf-sent": "is ordered to follow the new master", "+slave-reconf-done": "follows the new master",
	"+role-change": "changed role", "-role-change": "changed role", "+slave": "was found", "+sentinel": "was found",
	"+reboot": "was restarted", "+tilt": "TILT: no decisions", "-tilt": "TILT ended", "+monitor": "is monitored", "-monitor": "is not monitored",
	"+config-update-from": "has a newer configuration",
	"-failover-abort-not-elected": "no election was won", "-failover-abort-no-good-slave": "has no fit replica",
};
const SEVERITY = { "+odown": 4, "+sdown": 2, "+tilt": 2, "+switch-master": 1, "-odown": 0, "-sdown": 0 };

/* ---- What is known. */

const state = {
	me: null, history: [], lastEvent: null, login: null,
	skew: 0, contactAt: 0, problem: null, live: false, sort: "level", descending: true, master: null, selected: null,
};
/* By name: masters as listed, masters in full, explanations. */
const masters = new Map(), full = new Map(), explanations = new Map(), events = [];
const now = () => Date.now() + state.skew;

const lost = (x) => x.sdown_since || !x.connected;
/* The list has numbers where a master has its replicas and Sentinels. */
function summary(m) {
	const next = m.replicas.find((r) => r.would_be_promoted), lags = m.replicas.map((r) => r.lag_bytes).filter((lag) => lag !== null);
	return { ...m, replicas: m.replicas.length, max_lag_bytes: lags.length ? Math.max(...lags) : null, would_be_promoted: next ? next.address : null };
}
function risk(m) {
	if (m.status !== "ok" || m.failover) return "";
	if (!FINE.has(m.verdict)) return words(m.verdict);
	return m.voters_reachable < m.voters_needed ? words("majority_unreachable") : m.would_be_promoted ? "" : "no replica can be promoted";
}
function level(m) {
	if (m.status === "odown") return 4;
	if (m.status === "sdown" || m.failover) return 3;
	return risk(m) ? 2 : m.ok_replicas < m.replicas || m.ok_sentinels < m.voters ? 1 : 0;
}
const since = (m) => at(m.odown_since) || at(m.sdown_since) || (m.failover ? at(m.failover.started_at) : null);
const LEVELS = ["ok", "notice", "warn", "warn", "bad"];
const SHAPES = { ok: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm-1 10L4 8l1-1 2 2 4-4 1 1Z", notice: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm-1 3h2v5H7Zm0 6h2v2H7Z",
	warn: "M8 1 15.5 15H.5ZM7 6v4h2V6Zm0 5v2h2v-2Z", bad: "M1 1h14v14H1ZM4 5.4 6.6 8 4 10.6 5.4 12 8 9.4 10.6 12l1.4-1.4L9.4 8 12 5.4 10.6 4 8 6.6 5.4 4Z" };
const icon = (kind) => svg("svg", { class: `icon ${kind}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
	svg("path", { d: SHAPES[kind], "fill-rule": "evenodd" }));

function status(m) {
	if (m.failover) return "failing over";
	if (m.status === "odown") return "down";
	if (m.status === "sdown") return "no answer";
	if (risk(m)) return "up, at risk";
	const gone = m.replicas - m.ok_replicas, silent = m.voters - m.ok_sentinels;
	if (gone > 0) return `up, ${plural(gone, "replica")} lost`;
	return silent > 0 ? `up, ${plural(silent, "Sentinel")} lost` : "up";
}
function why(m) {
	const explained = explanations.get(m.name);
	if (explained && explained.verdict.code === m.verdict && level(m) > 1) return stop(explained.verdict.text);
	if (level(m) > 1) return sentence(m.status === "ok" ? `it is up, but could not be failed over: ${risk(m)}` : words(m.verdict));
	if (!explained) return "";
	const unfit = explained.replicas.filter((r) => !r.fit && r.unfit).map((r) => `${r.name} cannot be promoted: ${r.unfit.text}`);
	const silent = explained.agreement.voters.filter((v) => !v.reachable).map((v) => `${v.address.address} does not answer`);
	return [...unfit, ...silent].map(sentence).join(" ");
}

/* ---- The network. */

class Unauthorized extends Error {}

async function request(path, extra, signal) {
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
const json = async (path) => (await request(path)).json();
const encoded = (name) => [...name].map((c) => (/^[\ud800-\udfff]$/.test(c) ? `%${(c.charCodeAt(0) & 255).toString(16).toUpperCase()}` : encodeURIComponent(c))).join("");
const path = (name, rest) => `v1/masters/${encoded(name)}${rest || ""}`;

async function allMasters() {
	const found = [];
	for (;;) {
		const last = found.length ? `&after=${encoded(found[found.length - 1].name)}` : "";
		const page = await json(`v1/masters?limit=1000${last}`);
		found.push(...page);
		if (page.length < 1000) return found;
	}
}

async function refresh() {
	try {
		const runId = state.me && state.me.run_id;
		const [me, list] = await Promise.all([json("v1"), allMasters()]);
		state.me = me;
		state.skew = at(me.started_at) + me.uptime_ms - Date.now();
		// What an event made the page read meanwhile may be newer than this list.
		const newer = (m) => masters.has(m.name) && masters.get(m.name).revision > m.revision && me.run_id === runId;
		const current = list.map((m) => [m.name, newer(m) ? masters.get(m.name) : m]);
		masters.clear();
		for (const [name, m] of current) masters.set(name, m);
		if (state.master !== null && !masters.has(state.master)) route();
		contact();
		await Promise.all([readShown(), explainShown(), refreshHistory()]);
	} catch (problem) {
		failed(problem);
	}
	render();
}
async function readMaster(name) {
	const m = await json(path(name)).catch(() => null);
	if (m) {
		full.set(name, m);
		masters.set(name, summary(m));
	} else if (!state.problem) {
		full.delete(name);
		masters.delete(name);
	}
}
const readShown = () => (masters.has(state.master) ? readMaster(state.master) : null);
async function refreshHistory() {
	state.history = await json("v1/history?limit=100").catch(() => state.history);
}
async function explainShown() {
	const names = state.master !== null ? [state.master] : urgent().slice(0, 5).map((m) => m.name);
	await Promise.all(names.filter((name) => masters.has(name)).map(async (name) => {
		const found = await json(path(name, "/explain?journal=100")).catch(() => null);
		if (found) explanations.set(name, found);
	}));
}
function contact() {
	state.contactAt = Date.now();
	state.problem = null;
}
function failed(problem) {
	if (!(problem instanceof Unauthorized)) state.problem = problem.message;
}

/* Masters that events named are read again after a moment; many of them by one request. */
const dirty = new Set();
let dirtyTimer = 0;
function touch(name) {
	if (name) dirty.add(name);
	if (!dirtyTimer) dirtyTimer = setTimeout(readDirty, 60);
}
async function readDirty() {
	const names = [...dirty];
	dirty.clear();
	try {
		if (names.length > 10) await refresh();
		else {
			await Promise.all(names.map(readMaster));
			contact();
			render();
			await Promise.all([explainShown(), refreshHistory()]);
		}
	} catch (problem) {
		failed(problem);
	}
	render();
	dirtyTimer = dirty.size ? setTimeout(readDirty, 500) : 0;
}

const ANNOUNCED = new Set(["+odown", "-odown", "+switch-master", "+tilt", "-tilt"]);
function received(event) {
	events.unshift(event);
	events.length = Math.min(events.length, MAX_EVENTS);
	if (ANNOUNCED.has(event.channel)) $("announcer").textContent = `${event.master || ""} ${EVENTS[event.channel]}`;
	touch(event.master);
}

/* EventSource cannot send a header. Browsers keep a page that was left, and have few connections, so its stream ends. */
let stream = new AbortController();
addEventListener("pagehide", () => stream.abort());
async function listen() {
	let wait = 500, past = true;
	for (;;) {
		try {
			if (past) {
				const known = await json("v1/events");
				for (const e of known.slice(-MAX_EVENTS).reverse()) events.push({ ...e, id: e.sequence, at: at(e.at) });
				if (known.length) state.lastEvent = String(known[known.length - 1].sequence);
				past = false;
			}
			stream = new AbortController();
			const response = await request("v1/events", { Accept: "text/event-stream", ...(state.lastEvent && { "Last-Event-ID": state.lastEvent }) }, stream.signal);
			state.live = true;
			wait = 500;
			render();
			await readStream(response.body.pipeThrough(new TextDecoderStream()).getReader());
		} catch (problem) {
			if (!stream.signal.aborted) failed(problem);
			if (problem instanceof Unauthorized) await loggedIn;
		}
		state.live = false;
		render();
		await new Promise((done) => setTimeout(done, wait));
		wait = Math.min(wait * 2, 10000);
	}
}
async function readStream(reader) {
	let buffer = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		const blocks = (buffer + value).split(/\r?\n\r?\n/);
		buffer = blocks.pop();
		for (const block of blocks) streamed(block);
		render();
	}
}
function streamed(block) {
	const fields = { data: "" };
	for (const line of block.split(/\r?\n/)) {
		const colon = line.indexOf(":");
		if (colon <= 0) continue;
		const name = line.slice(0, colon), value = line.slice(colon + 1).replace(/^ /, "");
		fields[name] = name === "data" && fields.data ? `${fields.data}\n${value}` : value;
	}
	if (fields.id) state.lastEvent = fields.id;
	if (fields.event === "gap") refresh();
	else if (fields.event) {
		const data = JSON.parse(fields.data);
		received({ ...data, id: data.sequence, at: at(data.at) });
	}
}

/* ---- Login: only if the Sentinel asks. */

let loginDone = null, loggedIn = Promise.resolve();
function askLogin() {
	if (loginDone) return;
	loggedIn = new Promise((done) => { loginDone = done; });
	state.login = null;
	$("login").showModal();
	$("login-password").focus();
}
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
async function logIn(event) {
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
		loginDone();
		loginDone = null;
		refresh();
	} catch (problem) {
		$("login-problem").textContent = problem.message;
	}
}

/* ---- The parts of the page. */

const urgent = () => [...masters.values()].filter((m) => level(m) > 0)
	.sort((a, b) => level(b) - level(a) || (since(a) || 0) - (since(b) || 0) || (a.name < b.name ? -1 : 1));
const link = (name, rest) => el("a", { href: `#/master/${encoded(name)}`, class: "name", ...rest }, name);

function headline() {
	const all = masters.size, problems = urgent();
	const down = problems.filter((m) => level(m) === 4), open = problems.filter((m) => level(m) === 3), risky = problems.filter(risk).length;
	if (!state.me) return ["notice", state.problem || "Loading"];
	if (!all) return ["notice", "No master is monitored"];
	if (down.length) return ["bad", all === 1 ? "The master is down" : `${count(down.length)} of ${count(all)} masters ${down.length === 1 ? "is" : "are"} down`];
	if (open.length) return ["warn", all === 1 ? "The master does not answer" : `${count(open.length)} of ${count(all)} masters do not answer`];
	if (state.me.tilt.active) return ["warn", "TILT: no decisions"];
	const up = all === 1 ? "The master is up" : all === 2 ? "Both masters are up" : `All ${count(all)} masters are up`;
	if (risky) return ["warn", `${up}, but ${all === 1 ? "it" : count(risky)} could not be failed over`];
	if (problems.length && all === 1) return ["notice", `${up}, but needs attention`];
	if (problems.length) return ["notice", `${up}; ${problems.length === 1 ? "one needs" : `${count(problems.length)} need`} attention`];
	return ["ok", `${up} and protected`];
}

function renderTop() {
	const [kind, text] = headline(), me = state.me;
	const m = state.master !== null ? masters.get(state.master) : null;
	document.title = `${kind === "ok" ? "" : kind === "bad" ? "DOWN: " : "! "}${m ? m.name : text} – txsentinel`;
	$("overview").hidden = state.master !== null;
	$("master").hidden = $("health").hidden = false;
	if (state.master !== null) $("health").hidden = true;
	else {
		$("master").hidden = true;
		$("health").className = `health ${kind}`;
		show("headline", icon(kind), el("span", text));
		const counts = new Map();
		for (const each of masters.values()) {
			const name = each.failover ? "failing over" : ["fine", "to look at", "at risk", "without an answer", "down"][level(each)];
			counts.set(name, (counts.get(name) || 0) + 1);
		}
		$("counts").textContent = kind === "ok" || masters.size === 1 ? "" : [...counts].map(([name, n]) => `${count(n)} ${name}`).sort().join(" · ");
	}
	if (me) {
		show("self", "Sentinel ", el("b", me.listens[0] || "no port"), " ", el("span.muted", short(me.sentinel_id)));
		show("about", `txsentinel ${me.version} (${me.build}), pid ${me.pid}, up for ${duration(me.uptime_ms)}, epoch ${count(me.current_epoch)}`);
	}
	const old = me && Date.now() - state.contactAt > 3 * POLL_MS;
	$("contact").className = `contact ${old || state.problem ? "bad" : state.live ? "ok" : "warn"}`;
	show("contact", old || state.problem ? "no contact" : state.live ? "live" : me ? "polling" : "connecting");
	const banners = [];
	if (me && (old || state.problem)) banners.push(["bad", ["No answer from this Sentinel for ", ago(state.contactAt + state.skew), `. What you see is from before. ${sentence(state.problem)}`]]);
	if (me && me.tilt.active) banners.push(["warn", ["TILT: no decisions", me.tilt.since ? [" since ", when(at(me.tilt.since))] : "", me.tilt.until ? [", for ", left(at(me.tilt.until))] : "", me.tilt.cause ? `. Cause: ${me.tilt.cause}` : ""]]);
	if (me && me.storage.state !== "ok") banners.push(["bad", [`Decisions cannot be saved: ${me.storage.last_error || "unknown error"}. This Sentinel does not vote or fail over until they can.`]]);
	if (me && me.stopping) banners.push(["warn", ["This Sentinel is being stopped."]]);
	show("banners", banners.map(([type, content]) => el("p", { class: `banner ${type}` }, icon(type), el("span", content))));
}

function renderProblems() {
	const problems = urgent();
	show("problems", problems.slice(0, 5).map((m) => {
		const explained = explanations.get(m.name), kind = LEVELS[level(m)], begun = since(m);
		const remedy = explained && explained.unblock[0];
		return el("article", { class: `card ${kind}`, "data-key": m.name },
			el("h3", icon(kind), link(m.name), el("span.state", status(m)),
				begun && el("span.since", "for ", el("b", ago(begun)), " since ", when(begun))),
			el("p", why(m)),
			remedy && el("p.do", el("b", "What to do: "), sentence(remedy.do), remedy.command && [" ", el("code", remedy.command)],
				explained.unblock.length > 1 && el("span.muted", ` (${plural(explained.unblock.length - 1, "other way")})`)));
	}), problems.length > 5 && el("p.muted", `${count(problems.length - 5)} more masters need attention; see the table.`));
}

/* The table of masters: of many rows only those in view are in the document. */
const COLUMNS = [
	["level", "State", (m) => level(m)],
	["name", "Master", (m) => m.name],
	["since", "Since", (m) => since(m) || at(m.switched_at) || 0],
	["replicas", "Replicas", (m) => m.ok_replicas, "mid num"],
	["lag", "Most lag", (m) => m.max_lag_bytes ?? -1, "wide num"],
	["sentinels", "Sentinels", (m) => m.voters_reachable - m.voters_needed, "mid num"],
	["next", "Failover", (m) => (m.would_be_promoted ? m.would_be_promoted.address : ""), "wide"],
];
let list = [];

function renderTable() {
	const text = $("filter").value.trim().toLowerCase();
	const value = COLUMNS.find(([key]) => key === state.sort)[2], sign = state.descending ? -1 : 1;
	list = [...masters.values()].filter((m) => `${m.name} ${m.address.address}`.toLowerCase().includes(text));
	const keys = new Map(list.map((m) => [m, value(m)]));
	list.sort((a, b) => {
		const x = keys.get(a), y = keys.get(b);
		return x < y ? -sign : x > y ? sign : a.name < b.name ? -1 : 1;
	});
	show("columns", COLUMNS.map(([key, title, , type]) => el("th", { scope: "col", class: type,
		"aria-sort": key === state.sort ? (state.descending ? "descending" : "ascending") : null },
		el("button", { "data-sort": key }, title, el("span.arrow", { "aria-hidden": "true" }, key === state.sort ? (state.descending ? "▼" : "▲") : "")))));
	$("table").setAttribute("aria-rowcount", list.length + 1);
	$("shown").textContent = list.length === masters.size ? plural(list.length, "master") : `${count(list.length)} of ${plural(masters.size, "master")}`;
	$("scroller").classList.toggle("long", list.length > 30);
	renderRows();
}

function row(m, index) {
	const kind = LEVELS[level(m)], begun = since(m) || at(m.switched_at), lag = m.max_lag_bytes, next = m.would_be_promoted;
	return el("tr", { "data-key": `row ${m.name}`, "data-index": index, "aria-rowindex": index + 2, class: kind },
		el("td.state", icon(kind), status(m)),
		el("th", { scope: "row" }, link(m.name), el("span.below", m.address.address)),
		el("td.since", begun ? ago(begun) : ""),
		el("td.mid.num", `${m.ok_replicas} of ${m.replicas}`),
		el("td.wide.num", lag === null || lag === undefined ? "–" : bytes(lag)),
		el("td.mid.num", `${m.voters_reachable} of ${m.voters}`),
		el("td.wide", m.status !== "ok" ? words(m.verdict) : risk(m) ? el("b", risk(m)) : next ? ["to ", el("span.mono", next.address)] : "–"));
}

const spacer = (name) => {
	const cell = el("td", { colspan: COLUMNS.length });
	return { row: el("tr.spacer", { "aria-hidden": "true", "data-key": name }, cell), cell };
};
const above = spacer("above"), below = spacer("below");
function renderRows() {
	const scroller = $("scroller"), long = list.length > 30, view = Math.ceil(scroller.clientHeight / ROW) || 20;
	const first = long ? Math.max(0, Math.min(Math.floor(scroller.scrollTop / ROW), list.length - view) - 6) : 0;
	const last = long ? Math.min(list.length, first + view + 12) : list.length;
	const fresh = list.slice(first, last).map((m, i) => row(m, first + i));
	for (const old of [...$("rows").children]) if (old.className === "spacer") old.remove();
	matchChildren($("rows"), fresh.length || !state.me ? fresh : [el("tr", { "data-key": "none" }, el("td", { colspan: COLUMNS.length, class: "muted" }, masters.size ? "No master matches." : "No master is monitored."))]);
	if (long) {
		above.cell.style.height = `${first * ROW}px`;
		below.cell.style.height = `${(list.length - last) * ROW}px`;
		$("rows").prepend(above.row);
		$("rows").append(below.row);
	}
}
let frame = 0;
function scrolled() {
	if (!frame) frame = requestAnimationFrame(() => { frame = 0; renderRows(); });
}
function focusRow(index) {
	if (!list.length) return;
	const target = Math.max(0, Math.min(list.length - 1, index)), scroller = $("scroller");
	if (list.length > 30) {
		const head = $("columns").offsetHeight, top = target * ROW;
		if (top < scroller.scrollTop) scroller.scrollTop = top;
		else if (top + ROW + head > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW + head - scroller.clientHeight;
		renderRows();
	}
	const found = $("rows").querySelector(`[data-index="${target}"] a`);
	if (found) found.focus();
}

function subject(payload) {
	const [kind, name, host, port] = payload.split(" ");
	return kind === "slave" ? `replica ${name} ` : kind === "sentinel" ? `Sentinel ${host}:${port} ` : "";
}
function eventList(shown) {
	if (!shown.length) return el("p.muted", "None yet.");
	return el("ol.events", { tabindex: 0 }, shown.map((e) => el("li", { "data-key": `event ${e.id}`, class: LEVELS[SEVERITY[e.channel]] || "" },
		when(e.at), el("div", el("p", e.master && state.master === null && [link(e.master), ": "], subject(e.payload), EVENTS[e.channel] || e.channel),
			el("p.raw", el("b", e.channel), " ", e.payload)))));
}

const reached = (r, phase) => { const found = r.phases.find((p) => p.phase === phase); return found ? at(found.at) : null; };
const began = (r) => (r.phases.length ? at(r.phases[0].at) : null);
function outage(r) {
	const from = reached(r, "last_ok_ping") || reached(r, "sdown") || began(r), to = reached(r, "announced") || reached(r, "switched");
	return r.outcome === "switched" && from && to ? to - from : null;
}
function lossText(r) {
	if (r.loss.verdict === "lost") return r.loss.lost_bytes === null ? "writes were lost" : `${bytes(r.loss.lost_bytes)} lost`;
	return r.loss.verdict === "none" ? "nothing lost" : "loss unknown";
}
function phases(r) {
	const all = r.phases.filter((p) => p.phase !== "clients_gone"), start = began(r), end = at(all[all.length - 1].at), span = end - start || 1;
	return el("table.phases", el("caption", "Phases"), el("tbody", all.map((p, i) => {
		const x = i ? at(all[i - 1].at) - start : 0, width = at(p.at) - start - x;
		return el("tr", el("th", { scope: "row" }, plainly(p.phase)),
			el("td.num", i ? `+${took(p.took_ms ?? width)}` : clock(start)),
			el("td.plot", svg("svg", { width: "100%", height: 12, "aria-hidden": "true" },
				svg("rect", { x: `${(100 * x) / span}%`, y: 1, width: i ? `${(100 * width) / span}%` : 2, height: 10, rx: 2, class: p.phase === "switched" ? "done" : "bar-fill" }),
				i && svg("rect", { x: `${Math.min(99.4, (100 * (x + width)) / span)}%`, y: 1, width: 2, height: 10, class: "tick" }))));
	})));
}
function historyList(records) {
	if (!records.length) return el("p.muted", "None.");
	return el("div.history", records.map((r) => {
		const gap = outage(r), done = r.outcome === "switched";
		return el("details", { "data-key": r.record_id, class: done && r.loss.verdict !== "lost" ? "" : "warn" },
			el("summary", el("span.when", began(r) ? when(began(r)) : ""),
				el("span.what", state.master === null && el("b", r.master, " "), el("span.mono", r.from_server.address.address, r.to_server ? [" → ", r.to_server.address.address] : "")),
				el("span.result", done ? (gap === null ? "switched" : `without a master for ${took(gap)}`) : plainly(r.outcome), ", ", lossText(r))),
			el("dl", pair("Why", `${r.kind}, cause: ${plainly(r.cause)}${r.failure_class ? ` (${r.failure_class})` : ""}`),
				pair("Outcome", plainly(r.outcome)), pair("Chosen because", r.chosen_because), pair("Data", sentence(r.loss.text)),
				pair("Leader", r.leader && `${short(r.leader)}${r.leader === r.observer ? " (this Sentinel)" : ""}`),
				pair("Epoch", count(r.epoch)), pair("Resyncs", r.resyncs && `${r.resyncs.partial} partial, ${r.resyncs.full} full`),
				pair("Votes", r.voters.map((v) => `${short(v.sentinel_id)}: ${v.vote ? (v.vote === r.leader ? "for the leader" : `for ${short(v.vote)}`) : v.reason || "no answer"}`).join("; ")),
				pair("Ordered by", r.operator), pair("Seen by", r.ack && `${r.ack.by}: ${r.ack.comment}`)),
			r.phases.length > 1 && phases(r));
	}));
}
const pair = (term, value, type) => (value === null || value === undefined || value === "" || value === false ? null
	: [el("dt", term), el("dd", { class: type }, value)]);

/* ---- One master. */

const remedies = (list) => list.length > 0 && [
	el("h2.todo", list.length === 1 ? "What to do" : "What to do: any one of these lets a failover start"),
	el("ol.remedies", list.map((r) => el("li", sentence(r.do), r.bound_ms > 0 && el("span.muted", ` A failover starts within ${took(r.bound_ms)}.`),
		r.command && el("code.command", r.command))))];

function explainPart(m, e) {
	if (!e) return el("p.muted", "None yet.");
	const part = (title, ...content) => el("section", { "data-key": title }, el("h3", title), content);
	const table = (name, head, rows) => el("div.scroller", { tabindex: 0, role: "region", "aria-label": name },
		el("table", el("thead", el("tr", head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", rows)));
	const voters = new Map((e.election ? e.election.voters : []).map((v) => [v.sentinel_id, v]));
	return [
		e.blocked_by.length > 0 && part(m.status === "ok" ? "What would block a failover if it died now" : "What blocks a failover",
			el("ul", e.blocked_by.map((b) => el("li", sentence(b.text), b.until && [" Ends in ", left(at(b.until)), "."])))),
		m.status === "ok" && part("If it died now", el("p", e.would_promote
			? [el("b.mono", e.would_promote), " would be promoted", e.would_promote_because ? `: ${e.would_promote_because}` : "", "."]
			: "No replica would be promoted.")),
		m.status !== "ok" && part("What this Sentinel observes", el("dl", null,
			pair("Last good PING", e.evidence.last_ok_ping_at ? [when(at(e.evidence.last_ok_ping_at)), ", ", ago(at(e.evidence.last_ok_ping_at)), " ago"] : "never"),
			pair("Connection", e.evidence.connected ? "open" : e.evidence.failure ? `${e.evidence.failure.error} (${e.evidence.failure.failure_class})` : "closed"),
			pair("Last error reply", e.evidence.last_error_reply), pair("S_DOWN", e.sdown.since ? [when(at(e.sdown.since)), e.sdown.why ? `: ${e.sdown.why}` : ""] : "no"),
			pair("Replicas", e.evidence.replicas.map((r) => `${r.name}: ${r.master_link_up ? "has the master" : "lost the master"}`).join("; ")))),
		part(`Sentinels: ${e.agreement.have} of ${e.agreement.needed} needed consider it down`, table("Sentinels", ["Sentinel", "Reached", "Considers it", "Vote"],
			e.agreement.voters.map((v) => {
				const vote = voters.get(v.sentinel_id);
				return el("tr", el("th", { scope: "row" }, el("span.mono", v.address ? v.address.address : short(v.sentinel_id)), " ", el("span.muted", v.kind === "self" ? "this one" : v.kind)),
					el("td", v.reachable ? "yes" : ["no", v.down_since && [", for ", ago(at(v.down_since))], v.failure ? `: ${v.failure.error}` : ""]),
					el("td", v.reports_down ? "down" : v.reachable ? "up" : "–"),
					el("td", vote ? (vote.vote ? `for ${short(vote.vote)} in epoch ${vote.vote_epoch}` : "no answer") + (vote.reason ? `: ${vote.reason}` : "") : "–"));
			})),
			e.election && el("p", `Election of epoch ${count(e.election.epoch)}: ${e.election.outcome}, ${e.election.mine} of ${e.election.needed} needed votes for this Sentinel.`)),
		part("Order of promotion", e.replicas.length ? el("ol.ranks", [...e.replicas].sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9)).map((r) => el("li", null,
			el("b.rank", r.rank ?? "–"), el("span.mono", r.address.address), " ",
			r.fit ? `fit: priority ${r.priority}, offset ${count(r.offset)}` : el("span.warn-text", `unfit: ${r.unfit ? r.unfit.text : "unknown reason"}`)))) : el("p", "There is no replica.")),
		e.timers.length > 0 && part("Timers", el("dl", e.timers.map((t) => pair(t.what, ["in ", left(at(t.due_at)), ", at ", when(at(t.due_at))])))),
		e.warnings.length > 0 && part("Warnings", el("ul", e.warnings.map((text) => el("li", sentence(text))))),
		e.journal.length > 0 && part("Journal", el("ol.events", { tabindex: 0 }, [...e.journal].reverse().slice(0, 40).map((j) => el("li", null,
			when(at(j.at)), el("div", el("p", stop(j.text)), el("p.raw", el("b", j.what), j.epoch ? ` epoch ${j.epoch}` : "", j.subject ? ` ${j.subject}` : "")))))),
	];
}

function renderMaster() {
	if (state.master === null) return;
	const m = full.get(state.master), back = el("p.crumbs", el("a", { href: "#/" }, "← All masters"));
	if (!m) {
		show("master", back, el("h1", state.me && !masters.has(state.master) ? "No master has this name" : "Loading"), el("p.mono", state.master));
		return;
	}
	const brief = summary(m), kind = LEVELS[level(brief)], begun = since(m), e = explanations.get(m.name), f = m.failover;
	const records = state.history.filter((r) => r.master === m.name);
	show("master", back,
		el("div", { class: `health ${kind}` }, el("h1", icon(kind), el("span.name", m.name), el("span.state", status(brief))),
			begun && el("p.since", "for ", el("b", ago(begun)), ", since ", when(begun)),
			el("p", (level(brief) && why(brief)) || (e ? stop(e.verdict.text) : "")),
			e && remedies(e.unblock),
			f && el("p", `Failover of epoch ${count(f.epoch)}: ${plainly(f.state)}${f.promoted ? `, to ${f.promoted}` : ""}, for `, ago(at(f.started_at)), "."),
			el("dl.facts", [["Address", m.address.address, "mono"], ["Config epoch", count(m.config_epoch)], ["Replicas up", `${m.ok_replicas} of ${m.replicas.length}`],
				["Sentinels reached", `${m.voters_reachable} of ${m.voters}, needs ${m.voters_needed}`], ["Phase", e && plainly(e.phase)], ["Last moved", m.switched_at && when(at(m.switched_at))],
				["Paused until", m.pause && `${when(at(m.pause.until))}${m.pause.guaranteed ? "" : ", not guaranteed"}${m.pause.reason ? `: ${m.pause.reason}` : ""}`]].map((each) => each[1] && el("div", pair(...each))))),
		el("section.drawing", el("h2", "Replication"), el("div.drawing-box",
			el("div", { id: "plot", class: "plot-box", role: "group", "aria-label": `Drawing of ${m.name}` }, drawing(m)), el("aside", { id: "details", "aria-live": "polite", "aria-label": "Details of the selected node" }, details(m)))),
		el("section.explain", el("h2", m.status === "ok" ? "What would happen" : "Why"), el("div.parts", explainPart(m, e))),
		el("div.two",
			el("section", el("h2", "Events"), eventList(events.filter((each) => each.master === m.name).slice(0, 100))),
			el("section", el("h2", "Failovers"), historyList(records))),
		el("details.settings", el("summary", "Settings"), el("dl", Object.entries({ ...m.settings, guards: null, ...Object.fromEntries(m.settings.guards) })
			.map(([name, value]) => pair(plainly(name), typeof value === "number" ? count(value) : Array.isArray(value) ? value.join(", ") : String(value ?? ""))))));
}

/* The drawing: a tree beside the Sentinels if it fits, else one node below the other. */
const WIDTH = 204, HEIGHT = 58, GAP = 20, LEVEL = 108;

function nodesOf(m) {
	const nodes = [{ key: "master", kind: "master", item: m, parent: null, text: m.address.address, state: m.status === "ok" ? "ok" : "bad",
		note: m.status === "ok" ? "master" : m.status === "odown" ? "master, down" : "master, no answer" }];
	const byAddress = new Map(m.replicas.flatMap((r) => [[r.name, r.name], [r.address.address, r.name]]));
	for (const r of m.replicas) {
		const follows = r.master_address ? byAddress.get(r.master_address.address) : null;
		const gone = lost(r), promoted = m.failover && m.failover.promoted === r.name;
		nodes.push({ key: r.name, kind: "replica", item: r, parent: follows && follows !== r.name ? follows : "master", text: r.address.address,
			state: gone ? "bad" : r.fit ? "ok" : "warn", gone, next: r.would_be_promoted || promoted, linked: r.master_link_up && !gone,
			note: gone ? "replica, no answer" : promoted ? "being promoted" : r.would_be_promoted ? "next to be promoted" : r.fit ? "replica" : `unfit: ${r.unfit_text || r.unfit_code}`,
			lag: gone ? "" : !r.master_link_up ? "link down" : r.lag_bytes === null ? "" : `${bytes(r.lag_bytes)} behind` });
	}
	const known = new Map(nodes.map((n) => [n.key, n]));
	for (const n of nodes) {
		for (let i = 0, up = n; (up = known.get(up.parent)); i++) if (i > nodes.length) { n.parent = "master"; break; }
	}
	return nodes;
}
function sentinelsOf(m) {
	const own = { key: "self", kind: "sentinel", item: null, text: state.me ? state.me.listens[0] || short(state.me.sentinel_id) : "this Sentinel", state: "ok",
		note: `this Sentinel considers it ${m.status === "ok" ? "up" : "down"}` };
	return [own, ...m.peers.map((p) => ({ key: p.sentinel_id, kind: "sentinel", item: p, text: p.address.address, gone: lost(p), state: lost(p) ? "bad" : "ok",
		note: lost(p) ? "Sentinel, no answer" : `considers it ${p.reports_master_down ? "down" : "up"}${p.voted_leader && m.status !== "ok" ? `, voted ${short(p.voted_leader)}` : ""}` }))];
}
function cut(text, most) {
	return text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(text.length - Math.floor(most / 2))}`;
}

let plotWidth = 0;
function drawing(m) {
	const nodes = nodesOf(m), sentinels = sentinelsOf(m), box = $("plot");
	const available = plotWidth = Math.max(260, box ? box.clientWidth - 8 : innerWidth - 60);
	const children = (key) => nodes.filter((n) => n.parent === key);
	const place = (n, depth, x) => {
		let right = x;
		n.depth = depth;
		for (const child of children(n.key)) right = place(child, depth + 1, right) + GAP;
		right = Math.max(x + WIDTH, right - GAP);
		n.x = (x + right - WIDTH) / 2;
		n.y = depth * LEVEL;
		return right;
	};
	const treeWidth = place(nodes[0], 0, 1), wide = treeWidth + 60 + WIDTH <= available;
	const lines = [];
	const step = 34, indent = Math.min(6, Math.max(...nodes.map((n) => n.depth))) * step, half = HEIGHT / 2;
	const beside = wide || available >= 700, width = wide || !beside ? WIDTH : Math.min(420, available - indent - WIDTH - 80);
	let height = 0;
	if (wide) {
		for (const n of nodes.slice(1)) {
			const p = nodes.find((each) => each.key === n.parent), x1 = p.x + WIDTH / 2, y1 = p.y + HEIGHT, x2 = n.x + WIDTH / 2, mid = (y1 + n.y) / 2;
			lines.push(arrow(n, `M${x1} ${y1}C${x1} ${mid} ${x2} ${mid} ${x2} ${n.y - 7}`));
			if (n.lag) lines.push(label(n.lag, x2, n.y - 16, n.linked));
		}
	} else {
		const stack = (n) => {
			Object.assign(n, { x: 1 + Math.min(n.depth, 6) * step, y: height });
			height += HEIGHT + 12;
			const mine = children(n.key);
			for (const child of mine) {
				stack(child);
				lines.push(arrow(child, `M${n.x + 13} ${child.y + half}H${child.x - 7}`));
			}
			if (mine.length) lines.unshift(svg("path.link", { "stroke-width": 1.5, d: `M${n.x + 13} ${n.y + HEIGHT}V${mine[mine.length - 1].y + half}` }));
		};
		stack(nodes[0]);
	}
	for (const n of nodes) n.width = wide ? WIDTH : (beside ? width + indent : Math.min(available, 460)) - n.x - 1;
	const right = Math.max(...nodes.map((n) => n.x + n.width)), column = beside ? right + 70 : 1 + step, bus = beside ? column - 22 : 5;
	sentinels.forEach((n, i) => {
		Object.assign(n, { x: column, y: (beside ? 0 : height + 10) + i * (HEIGHT + 12) });
		n.width = beside ? Math.min(260, available - column - 1) : right - column;
		const gone = n.gone ? "watch gone" : "watch";
		if (i === 0) lines.push(svg("path.watch", { d: beside ? `M${nodes[0].x + nodes[0].width} ${half}H${column}` : `M${bus} ${HEIGHT}V${n.y + half}H${column}` }));
		else lines.push(svg("path", { class: gone, d: `M${bus} ${sentinels[i - 1].y + half}V${n.y + half}H${column}` }));
	});
	height = Math.max(...[...nodes, ...sentinels].map((n) => n.y)) + HEIGHT;
	const whole = Math.max(right, column + sentinels[0].width) + 1;
	return svg("svg", { width: whole, height: height + 2, viewBox: `0 -1 ${whole} ${height + 2}` },
		svg("defs", svg("marker", { id: "head", viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8Z", class: "head" }))),
		svg("g", lines), [...nodes, ...sentinels].map((n) => node(n, wide)));
}
const arrow = (n, d) => svg("path", { class: n.linked ? "link" : "link down", d, "marker-end": "url(#head)", "stroke-width": 1.5 + Math.min(4, Math.log10((n.item.lag_bytes || 0) + 1) / 2) });
const label = (text, x, y, linked) => svg("g", svg("rect.label-back", { x: x - text.length * 3.4 - 4, y: y - 13, width: text.length * 6.8 + 8, height: 18, rx: 3 }),
	svg("text", { class: linked ? "label" : "label down", x, y, "text-anchor": "middle" }, text));
function node(n, wide) {
	const chars = Math.floor((n.width - 46) / 7.9), note = wide || !n.lag ? n.note : n.kind === "replica" ? `${n.lag}, ${n.note}` : n.note;
	const chosen = state.selected === n.key, rx = n.kind === "sentinel" ? 29 : 6, inset = n.kind === "sentinel" ? 22 : 14;
	return svg("g", { "data-key": n.key, "data-node": n.key, class: `node ${n.kind} ${n.gone ? "gone" : n.state}${chosen ? " chosen" : ""}`, transform: `translate(${n.x} ${n.y})`,
		role: "button", tabindex: 0, "aria-pressed": chosen ? "true" : "false" },
		svg("title", `${n.text}: ${note}`),
		svg("rect.frame", { width: n.width, height: HEIGHT, rx }), n.next && svg("rect.inner", { x: 3.5, y: 3.5, width: n.width - 7, height: HEIGHT - 7, rx: 4 }),
		svg("path", { class: `shape ${n.state}`, d: SHAPES[n.state], transform: `translate(${inset} 10)`, "fill-rule": "evenodd" }),
		svg("text.address", { x: inset + 23, y: 24 }, cut(n.text, chars - (inset > 14 ? 2 : 0))),
		svg("text.note", { x: inset, y: 45 }, cut(note, Math.floor((n.width - 2 * inset) / 6.6))));
}

function details(m) {
	const n = [...nodesOf(m), ...sentinelsOf(m)].find((each) => each.key === state.selected);
	if (!n) return el("p.muted", "Select a node for its details.");
	const x = n.item, failure = x && x.failure, hello = ((m.probes || {})[n.key] || {}).last_hello_at;
	const common = x && [pair("Flags", x.flags.join(", ")), x.sdown_since && pair("No answer", ["for ", ago(at(x.sdown_since)), ", since ", when(at(x.sdown_since))]),
		failure && pair("Failure", [`${failure.error} (${failure.failure_class}), `, when(at(failure.at))])];
	const parts = {
		master: () => [pair("Run ID", x.run_id, "mono"), pair("Replication ID", x.replid, "mono"), pair("Offset", x.offset !== null && count(x.offset)), pair("Config epoch", count(x.config_epoch)), common],
		replica: () => [pair("Promotion", x.fit ? (x.would_be_promoted ? "would be promoted next" : "fit") : `unfit: ${x.unfit_text || x.unfit_code}`), pair("Behind", x.lag_bytes !== null && bytes(x.lag_bytes)),
			pair("Priority", count(x.priority)), pair("Offset", count(x.offset)),
			pair("Link to its master", x.master_link_up ? "up" : x.master_link_down_ms === null ? "never up" : `down for ${duration(x.master_link_down_ms)}`), pair("Follows", x.master_address && x.master_address.address, "mono"),
			pair("Run ID", x.run_id, "mono"), pair("Replication ID", x.replid, "mono"), common],
		sentinel: () => (x ? [pair("Kind", x.kind === "c" ? "redis-sentinel or valkey-sentinel" : x.kind), pair("ID", x.sentinel_id, "mono"), pair("Considers the master", x.reports_master_down ? "down" : "up"),
			pair("Last hello", hello ? when(at(hello)) : "none"), pair("Last vote", x.voted_leader && `for ${short(x.voted_leader)} in epoch ${x.voted_epoch}`), common]
			: [pair("ID", state.me && state.me.sentinel_id, "mono"), pair("Listens", state.me && state.me.listens.join(", "), "mono")]),
	};
	return [el("h3", el("span.mono", n.text)), el("p", sentence(n.note), n.lag ? ` ${sentence(n.lag)}` : ""), el("dl", parts[n.kind]())];
}

/* ---- Drawing it all, and what the user does. */

let pending = 0;
function render() {
	if (!pending) pending = requestAnimationFrame(() => { pending = 0; renderNow(); });
}
function renderNow() {
	tick();
	renderTop();
	if (state.master !== null) {
		renderMaster();
		// The first one does not know its width.
		if ($("plot") && Math.max(260, $("plot").clientWidth - 8) !== plotWidth) renderMaster();
	} else {
		renderProblems();
		renderTable();
		show("events", eventList(events.slice(0, 50)));
		show("history", historyList(state.history.slice(0, 20)));
	}
}
function decoded(text) {
	try { return decodeURIComponent(text); } catch { return text; }
}
function route() {
	const found = /^#\/master\/(.*)$/.exec(location.hash), before = state.master;
	if (!found && location.hash && !location.hash.startsWith("#/")) return;
	const name = !found ? null : [...masters.keys()].find((each) => encoded(each) === found[1]) ?? decoded(found[1]);
	state.master = name;
	if (before !== name) state.selected = null;
	renderNow();
	if (before !== name) {
		scrollTo(0, 0);
		const from = name === null && [...document.querySelectorAll("#rows a, #problems a")].find((a) => a.textContent === before);
		(from || $("main")).focus({ preventScroll: true });
		if (name !== null) Promise.all([readShown(), explainShown()]).then(render);
	}
}
function tick() {
	$("clock").textContent = state.me ? `${clock(now())} UTC` : "";
	for (const each of document.querySelectorAll("[data-since]")) each.textContent = duration(now() - each.dataset.since);
	for (const each of document.querySelectorAll("[data-until]")) each.textContent = duration(each.dataset.until - now());
}
function select(key) {
	state.selected = state.selected === key ? null : key;
	render();
}

document.addEventListener("click", (event) => {
	const sort = event.target.closest("[data-sort]"), chosen = event.target.closest("[data-node]");
	if (sort) {
		state.descending = sort.dataset.sort === state.sort ? !state.descending : ["level", "lag", "since"].includes(sort.dataset.sort);
		state.sort = sort.dataset.sort;
		render();
	} else if (chosen) select(chosen.dataset.node);
	const skip = event.target.closest("a.skip");
	if (skip) {
		event.preventDefault();
		$(skip.getAttribute("href").slice(1)).focus();
	}
});
document.addEventListener("keydown", (event) => {
	const typing = event.target.matches("input, textarea"), chosen = event.target.closest("[data-node]"), line = event.target.closest("#rows tr");
	if (event.ctrlKey || event.metaKey || event.altKey || $("login").open) return;
	if (chosen && (event.key === "Enter" || event.key === " ")) {
		event.preventDefault();
		select(chosen.dataset.node);
	} else if (event.key === "/" && !typing && state.master === null) {
		event.preventDefault();
		$("filter").focus();
	} else if (event.key === "Escape" && state.master !== null) location.hash = "#/";
	else if (line || event.target === $("filter")) {
		const index = line ? Number(line.dataset.index) : -1, page = Math.max(1, Math.floor($("scroller").clientHeight / ROW) - 2);
		const move = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: list.length - 1 }[event.key];
		if (move === undefined || (!line && event.key !== "ArrowDown")) return;
		event.preventDefault();
		if (move < 0 && event.key === "ArrowUp") $("filter").focus();
		else focusRow(move);
	}
});
$("filter").addEventListener("input", () => { $("scroller").scrollTop = 0; render(); });
$("scroller").addEventListener("scroll", scrolled, { passive: true });
$("login-form").addEventListener("submit", logIn);
$("login").addEventListener("cancel", (event) => event.preventDefault());
addEventListener("hashchange", route);
addEventListener("resize", render);

async function poll() {
	for (;;) {
		await new Promise((done) => setTimeout(done, masters.size > 200 ? 3 * POLL_MS : POLL_MS));
		if (!document.hidden && !loginDone) await refresh();
	}
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(tick, 1000);
route();
refresh().then(poll);
listen();
})();
