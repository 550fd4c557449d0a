/* The table of masters: of many rows only those in view are in the document. */
import { $, el, matchChildren, show } from "./elements.js";
import { sparkline } from "./sparkline.js";
import { LEVELS, icon, lagsOf, level, masters, risk, since, state, status } from "./state.js";
import { ago, at, bytes, count, link, plural, words } from "./words.js";

export const ROW = 44;

const COLUMNS = [
	["level", "State", (m) => level(m)],
	["name", "Master", (m) => m.name],
	["since", "Since", (m) => since(m) || at(m.switched_at) || 0],
	["replicas", "Replicas", (m) => m.ok_replicas, "mid num"],
	["lag", "Most lag", (m) => m.max_lag_bytes ?? -1, "wide num"],
	["sentinels", "Sentinels", (m) => m.voters_reachable - m.voters_needed, "mid num"],
	["next", "Failover", (m) => (m.would_be_promoted ? m.would_be_promoted.address : ""), "wide"],
];
export let list = [];

export function renderTable() {
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
		el("td.wide.num", sparkline(lagsOf(m.name)), lag === null || lag === undefined ? "–" : bytes(lag)),
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
export function scrolled() {
	if (!frame) frame = requestAnimationFrame(() => { frame = 0; renderRows(); });
}
export function focusRow(index) {
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
