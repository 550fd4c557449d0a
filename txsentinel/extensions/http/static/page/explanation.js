/* Why a master is, or is not, failed over, and what to do. */
import { el, pair } from "./elements.js";
import { ago, at, count, left, sentence, short, stop, took, when, words } from "./words.js";

export const remedies = (list) => list.length > 0 && [
	el("h2.todo", list.length === 1 ? "What to do" : "What to do: any one of these lets a failover start"),
	el("ol.remedies", list.map((r) => el("li", sentence(r.do), r.bound_ms > 0 && el("span.muted", ` A failover starts within ${took(r.bound_ms)}.`),
		r.command && el("code.command", r.command))))];

export function explainPart(m, e) {
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
		(e.fleet.length > 0 || e.missing.length > 0) && part("What the other Sentinels answer", table("Answers of the other Sentinels", ["Sentinel", "Verdict", "Address", "Epoch", "Differs"],
			[...e.fleet.map((f) => el("tr", el("th", { scope: "row" }, el("span.mono", short(f.sentinel_id))), el("td", f.verdict ? words(f.verdict) : "none, a C Sentinel"),
				el("td", el("span.mono", f.address.address)), el("td.num", count(f.config_epoch)), el("td", f.contradiction ? el("span.warn-text", f.contradiction) : "no"))),
			...e.missing.map((id) => el("tr", el("th", { scope: "row" }, el("span.mono", short(id))), el("td", { colspan: 4 }, "has not answered")))])),
		part("Order of promotion", e.replicas.length ? el("ol.ranks", [...e.replicas].sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9)).map((r) => el("li", null,
			el("b.rank", r.rank ?? "–"), el("span.mono", r.address.address), " ",
			r.fit ? `fit: priority ${r.priority}, offset ${count(r.offset)}` : el("span.warn-text", `unfit: ${r.unfit ? r.unfit.text : "unknown reason"}`)))) : el("p", "There is no replica.")),
		e.timers.length > 0 && part("Timers", el("dl", e.timers.map((t) => pair(t.what, ["in ", left(at(t.due_at)), ", at ", when(at(t.due_at))])))),
		e.warnings.length > 0 && part("Warnings", el("ul", e.warnings.map((text) => el("li", sentence(text))))),
		e.journal.length > 0 && part("Journal", el("ol.events", { tabindex: 0 }, [...e.journal].reverse().slice(0, 40).map((j) => el("li", null,
			when(at(j.at)), el("div", el("p", stop(j.text)), el("p.raw", el("b", j.what), j.epoch ? ` epoch ${j.epoch}` : "", j.subject ? ` ${j.subject}` : "")))))),
	];
}
