/* Drawing what has changed, at most once in a frame, and which view is shown. */
import { $, show } from "./elements.js";
import { eventList } from "./events.js";
import { historyList } from "./failovers.js";
import { renderMaster } from "./master.js";
import { renderProblems, renderTop } from "./overview.js";
import { events, nameInHash, observe, state } from "./state.js";
import { renderTable } from "./table.js";
import { plotWidth } from "./topology.js";
import { explainShown, readShown } from "./updates.js";
import { clock, duration, now } from "./words.js";

let pending = 0;
observe(render);
export function render() {
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
export function route() {
	const name = nameInHash(), before = state.master;
	if (name === null && location.hash && !location.hash.startsWith("#/")) return;
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
export function tick() {
	$("clock").textContent = state.me ? `${clock(now())} UTC` : "";
	for (const each of document.querySelectorAll("[data-since]")) each.textContent = duration(now() - each.dataset.since);
	for (const each of document.querySelectorAll("[data-until]")) each.textContent = duration(each.dataset.until - now());
}
export function select(key) {
	state.selected = state.selected === key ? null : key;
	render();
}
