/* The list of failovers, with their phases as bars. */
import { el, pair, svg } from "./elements.js";
import { state } from "./state.js";
import { at, bytes, clock, count, plainly, sentence, short, took, when } from "./words.js";

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
export function historyList(records) {
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
