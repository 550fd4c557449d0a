/* The list of events. */
import { el } from "./elements.js";
import { LEVELS, state } from "./state.js";
import { EVENTS, SEVERITY, link, when } from "./words.js";

function subject(payload) {
	const [kind, name, host, port] = payload.split(" ");
	return kind === "slave" ? `replica ${name} ` : kind === "sentinel" ? `Sentinel ${host}:${port} ` : "";
}
export function eventList(shown) {
	if (!shown.length) return el("p.muted", "None yet.");
	return el("ol.events", { tabindex: 0 }, shown.map((e) => el("li", { "data-key": `event ${e.id}`, class: LEVELS[SEVERITY[e.channel]] || "" },
		when(e.at), el("div", el("p", e.master && state.master === null && [link(e.master), ": "], subject(e.payload), EVENTS[e.channel] || e.channel),
			el("p.raw", el("b", e.channel), " ", e.payload)))));
}
