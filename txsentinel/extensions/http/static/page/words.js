/* Words, numbers and times for people. */
import { el } from "./elements.js";

export const count = new Intl.NumberFormat("en").format;
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;
const two = (n) => String(n).padStart(2, "0");
export const short = (id) => (id ? id.slice(0, 8) : "");
export const at = (text) => (text ? Date.parse(text) : null);

let skew = 0;
/* The clock of the Sentinel, in milliseconds since 1970; instants of this browser are put on it. */
export function setClock(ms) { skew = ms - Date.now(); }
export const onClock = (ms) => ms + skew;
export const now = () => onClock(Date.now());

export function duration(ms) {
	const s = Math.max(0, Math.floor(ms / 1000));
	if (s < 60) return `${s} s`;
	if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
	if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
	return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}
export const took = (ms) => (ms === null || ms === undefined ? "–" : ms < 1000 ? `${count(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export function bytes(n) {
	if (n === null || n === undefined) return "unknown";
	const units = ["B", "kB", "MB", "GB", "TB", "PB"];
	let i = 0, amount = n;
	while (Math.abs(amount) >= 999.95 && i < units.length - 1) { amount /= 1000; i++; }
	return i ? `${amount.toFixed(1)} ${units[i]}` : `${n} B`;
}
export function clock(ms, withDate) {
	const d = new Date(ms), time = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
	return withDate ? `${d.toISOString().slice(0, 10)} ${time}` : time;
}
const today = (ms) => Math.abs(now() - ms) < 20 * 3600e3;
export const when = (ms) => el("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toISOString() }, clock(ms, !today(ms)));
export const ago = (ms) => el("span.num", { "data-since": ms }, duration(now() - ms));
export const left = (ms) => el("span.num", { "data-until": ms }, duration(ms - now()));
export const stop = (text) => (text ? text + (/[.!?]$/.test(text) ? "" : ".") : "");
export const sentence = (text) => (text ? text[0].toUpperCase() + stop(text.slice(1)) : "");

const VERDICTS = {
	healthy: "up", down_here_only: "down for this Sentinel only", agreed_waiting: "waits to campaign",
	electing: "electing a leader", promoting: "promoting a replica",
	resting: "waits", paused: "failovers are paused", tilt: "TILT: no decisions", storage_failing: "decisions cannot be saved",
	no_replicas: "there is no replica", no_fit_replica: "no replica is fit", majority_unreachable: "no majority of Sentinels can be reached",
	majority_counts_ghosts: "the majority counts lost Sentinels", all_priority_zero: "all replicas have priority 0",
};
export const FINE = new Set(["healthy", "switched", "resting"]);
export const plainly = (code) => code.replaceAll("_", " ");
export const words = (code) => VERDICTS[code] || plainly(code);

export const EVENTS = {
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
export const SEVERITY = { "+odown": 4, "+sdown": 2, "+tilt": 2, "+switch-master": 1, "-odown": 0, "-sdown": 0 };

export const encoded = (name) => [...name].map((c) => (/^[\ud800-\udfff]$/.test(c) ? `%${(c.charCodeAt(0) & 255).toString(16).toUpperCase()}` : encodeURIComponent(c))).join("");
export const path = (name, rest) => `v1/masters/${encoded(name)}${rest || ""}`;
export const link = (name, rest) => el("a", { href: `#/master/${encoded(name)}`, class: "name", ...rest }, name);
