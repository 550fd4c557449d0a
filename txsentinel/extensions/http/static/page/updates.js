/* Reading the state again: at intervals, and what events name. */
import { $ } from "./elements.js";
import { Unauthorized, json, loggedIn, loginDone, request } from "./session.js";
import { changed, events, explanations, full, masters, nameInHash, rememberLags, state, summary, urgent } from "./state.js";
import { EVENTS, at, encoded, path, setClock } from "./words.js";

const MAX_EVENTS = 300;
export const POLL_MS = 5000;

async function allMasters() {
	const found = [];
	for (;;) {
		const last = found.length ? `&after=${encoded(found[found.length - 1].name)}` : "";
		const page = await json(`v1/masters?limit=1000${last}`);
		found.push(...page);
		if (page.length < 1000) return found;
	}
}

export async function refresh() {
	try {
		const runId = state.me && state.me.run_id;
		const [me, list] = await Promise.all([json("v1"), allMasters()]);
		state.me = me;
		setClock(at(me.started_at) + me.uptime_ms);
		// What an event made the page read meanwhile may be newer than this list.
		const newer = (m) => masters.has(m.name) && masters.get(m.name).revision > m.revision && me.run_id === runId;
		const current = list.map((m) => [m.name, newer(m) ? masters.get(m.name) : m]);
		masters.clear();
		for (const [name, m] of current) masters.set(name, m);
		if (state.master !== null && !masters.has(state.master)) state.master = nameInHash();
		rememberLags();
		contact();
		await Promise.all([readShown(), explainShown(), refreshHistory()]);
	} catch (problem) {
		failed(problem);
	}
	changed();
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
export const readShown = () => (masters.has(state.master) ? readMaster(state.master) : null);
async function refreshHistory() {
	state.history = await json("v1/history?limit=100").catch(() => state.history);
}
export async function explainShown() {
	const names = state.master !== null ? [state.master] : urgent().slice(0, 5).map((m) => m.name);
	await Promise.all(names.filter((name) => masters.has(name)).map(async (name) => {
		// Only for the master that is shown the other Sentinels are asked, which may take a second.
		const query = name === state.master ? "?journal=100&fleet=1" : "";
		const found = await json(path(name, `/explain${query}`)).catch(() => null);
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
			changed();
			await Promise.all([explainShown(), refreshHistory()]);
		}
	} catch (problem) {
		failed(problem);
	}
	changed();
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
export async function listen() {
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
			changed();
			await readStream(response.body.pipeThrough(new TextDecoderStream()).getReader());
		} catch (problem) {
			if (!stream.signal.aborted) failed(problem);
			if (problem instanceof Unauthorized) await loggedIn;
		}
		state.live = false;
		changed();
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
		changed();
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

export async function poll() {
	for (;;) {
		await new Promise((done) => setTimeout(done, masters.size > 200 ? 3 * POLL_MS : POLL_MS));
		if (!document.hidden && !loginDone) await refresh();
	}
}
