/* What the user does, and the start. */
import { begin, check, confirm, end } from "./page/acting.js";
import { checkGroup } from "./page/checks.js";
import { watchDragging } from "./page/dragging.js";
import { $ } from "./page/elements.js";
import { render, route, select, tick } from "./page/rendering.js";
import { logIn, logOut, loginDone, whenLoggedIn } from "./page/session.js";
import { state } from "./page/state.js";
import { ROW, focusRow, list, scrolled } from "./page/table.js";
import { listen, poll, refresh } from "./page/updates.js";

document.addEventListener("click", (event) => {
	const sort = event.target.closest("[data-sort]"), chosen = event.target.closest("[data-node]");
	if (sort) {
		state.descending = sort.dataset.sort === state.sort ? !state.descending : ["level", "lag", "since"].includes(sort.dataset.sort);
		state.sort = sort.dataset.sort;
		render();
	} else if (chosen) select(chosen.dataset.node);
	const acted = event.target.closest("[data-act]"), word = acted && acted.dataset.act;
	if (word === "logout") logOut();
	else if (word === "end") end();
	else if (word) begin(word);
	const checked = event.target.closest("[data-check]");
	if (checked) checkGroup(checked.dataset.check);
	const skip = event.target.closest("a.skip");
	if (skip) {
		event.preventDefault();
		$(skip.getAttribute("href").slice(1)).focus();
	}
});
document.addEventListener("keydown", (event) => {
	const typing = event.target.matches("input, textarea"), chosen = event.target.closest("[data-node]"), line = event.target.closest("#rows tr");
	if (event.ctrlKey || event.metaKey || event.altKey || $("login").open || $("order").open) return;
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
$("login").addEventListener("cancel", (event) => { if (loginDone) event.preventDefault(); });
$("order-form").addEventListener("submit", confirm);
$("order").addEventListener("cancel", (event) => { event.preventDefault(); end(); });
$("order").addEventListener("change", (event) => { if (event.target.id === "order-to") check(); });
watchDragging((address) => begin("switchover", address));
addEventListener("hashchange", route);
addEventListener("resize", render);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
whenLoggedIn(refresh);
setInterval(tick, 1000);
route();
refresh().then(poll);
listen();
