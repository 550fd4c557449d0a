/* What is known of the Sentinel and its masters, and how serious it is. */
import { svg } from "./elements.js";
import { FINE, at, encoded, plural, sentence, stop, words } from "./words.js";

export const state = {
	me: null, history: [], lastEvent: null, login: null, user: null, rights: [],
	contactAt: 0, problem: null, live: false, sort: "level", descending: true, master: null, selected: null,
};
/* By name: masters as listed, masters in full, explanations. */
export const masters = new Map(), full = new Map(), explanations = new Map(), events = [];
/* By name: what the checks of the group have found, or that they run. */
export const checks = new Map();

/* By name: the most lag at each of the latest readings. */
const MAX_LAGS = 60, lags = new Map();
export function rememberLags() {
	for (const name of lags.keys()) if (!masters.has(name)) lags.delete(name);
	for (const [name, m] of masters) {
		const known = lags.get(name) || [];
		known.push(m.max_lag_bytes ?? null);
		if (known.length > MAX_LAGS) known.shift();
		lags.set(name, known);
	}
}
export const lagsOf = (name) => lags.get(name) || [];

export const lost = (x) => x.sdown_since || !x.connected;
/* The list has numbers where a master has its replicas and Sentinels. */
export function summary(m) {
	const next = m.replicas.find((r) => r.would_be_promoted), lags = m.replicas.map((r) => r.lag_bytes).filter((lag) => lag !== null);
	return { ...m, replicas: m.replicas.length, max_lag_bytes: lags.length ? Math.max(...lags) : null, would_be_promoted: next ? next.address : null };
}
export function risk(m) {
	if (m.status !== "ok" || m.failover) return "";
	if (!FINE.has(m.verdict)) return words(m.verdict);
	return m.voters_reachable < m.voters_needed ? words("majority_unreachable") : m.would_be_promoted ? "" : "no replica can be promoted";
}
export function level(m) {
	if (m.status === "odown") return 4;
	if (m.status === "sdown" || m.failover) return 3;
	return risk(m) ? 2 : m.ok_replicas < m.replicas || m.ok_sentinels < m.voters ? 1 : 0;
}
export const since = (m) => at(m.odown_since) || at(m.sdown_since) || (m.failover ? at(m.failover.started_at) : null);
export const LEVELS = ["ok", "notice", "warn", "warn", "bad"];
export const SHAPES = { ok: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm-1 10L4 8l1-1 2 2 4-4 1 1Z", notice: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm-1 3h2v5H7Zm0 6h2v2H7Z",
	warn: "M8 1 15.5 15H.5ZM7 6v4h2V6Zm0 5v2h2v-2Z", bad: "M1 1h14v14H1ZM4 5.4 6.6 8 4 10.6 5.4 12 8 9.4 10.6 12l1.4-1.4L9.4 8 12 5.4 10.6 4 8 6.6 5.4 4Z" };
export const icon = (kind) => svg("svg", { class: `icon ${kind}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
	svg("path", { d: SHAPES[kind], "fill-rule": "evenodd" }));

export function status(m) {
	if (m.failover) return "failing over";
	if (m.status === "odown") return "down";
	if (m.status === "sdown") return "no answer";
	if (risk(m)) return "up, at risk";
	const gone = m.replicas - m.ok_replicas, silent = m.voters - m.ok_sentinels;
	if (gone > 0) return `up, ${plural(gone, "replica")} lost`;
	return silent > 0 ? `up, ${plural(silent, "Sentinel")} lost` : "up";
}
export function why(m) {
	const explained = explanations.get(m.name);
	if (explained && explained.verdict.code === m.verdict && level(m) > 1) return stop(explained.verdict.text);
	if (level(m) > 1) return sentence(m.status === "ok" ? `it is up, but could not be failed over: ${risk(m)}` : words(m.verdict));
	if (!explained) return "";
	const unfit = explained.replicas.filter((r) => !r.fit && r.unfit).map((r) => `${r.name} cannot be promoted: ${r.unfit.text}`);
	const silent = explained.agreement.voters.filter((v) => !v.reachable).map((v) => `${v.address.address} does not answer`);
	return [...unfit, ...silent].map(sentence).join(" ");
}

export const urgent = () => [...masters.values()].filter((m) => level(m) > 0)
	.sort((a, b) => level(b) - level(a) || (since(a) || 0) - (since(b) || 0) || (a.name < b.name ? -1 : 1));

/* The name of the master in the address of the page, null for all masters. */
export function nameInHash() {
	const found = /^#\/master\/(.*)$/.exec(location.hash);
	return found ? [...masters.keys()].find((each) => encoded(each) === found[1]) ?? decoded(found[1]) : null;
}
export function decoded(text) {
	try { return decodeURIComponent(text); } catch { return text; }
}

/* What is called when something has changed. */
const observers = [];
export const observe = (observer) => observers.push(observer);
export const changed = () => observers.forEach((observer) => observer());
