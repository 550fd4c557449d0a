/* The view of one master. */
import { actionsPart } from "./acting.js";
import { checksPart } from "./checks.js";
import { el, pair, show } from "./elements.js";
import { eventList } from "./events.js";
import { explainPart, remedies } from "./explanation.js";
import { historyList } from "./failovers.js";
import { LEVELS, events, explanations, full, icon, level, masters, since, state, status, summary, why } from "./state.js";
import { details, drawing } from "./topology.js";
import { ago, at, count, plainly, stop, when } from "./words.js";

export function renderMaster() {
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
				["Paused until", m.pause && [when(at(m.pause.until)), m.pause.guaranteed ? "" : ", not guaranteed", m.pause.reason ? `: ${m.pause.reason}` : ""]]].map((each) => each[1] && el("div", pair(...each))))),
		el("section.drawing", el("h2", "Replication"), el("div.drawing-box",
			el("div", { id: "plot", class: "plot-box", role: "group", "aria-label": `Drawing of ${m.name}` }, drawing(m)), el("aside", { id: "details", "aria-live": "polite", "aria-label": "Details of the selected node" }, details(m)))),
		el("section.explain", el("h2", m.status === "ok" ? "What would happen" : "Why"), el("div.parts", explainPart(m, e))),
		el("section.actions", el("h2", "Actions"), actionsPart(m)),
		el("section.checks", el("h2", "Checks"), checksPart(m.name)),
		el("div.two",
			el("section", el("h2", "Events"), eventList(events.filter((each) => each.master === m.name).slice(0, 100))),
			el("section", el("h2", "Failovers"), historyList(records))),
		el("details.settings", el("summary", "Settings"), el("dl", Object.entries({ ...m.settings, guards: null, ...Object.fromEntries(m.settings.guards) })
			.map(([name, value]) => pair(plainly(name), typeof value === "number" ? count(value) : Array.isArray(value) ? value.join(", ") : String(value ?? ""))))));
}
