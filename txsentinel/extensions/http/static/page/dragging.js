/* Dragging a replica onto the master, with a mouse or a pen; the keyboard has a button for the same. */
import { $ } from "./elements.js";
import { full, state } from "./state.js";

const MIN_PIXELS = 8;

/* Call `dropped` with the address of a replica that was dragged onto the master. */
export function watchDragging(dropped) {
	let from = null;
	const target = (event) => (document.elementFromPoint(event.clientX, event.clientY) || document.body).closest("[data-node]");
	const mark = (on) => { if ($("plot")) $("plot").classList.toggle("dragging", on); };
	document.addEventListener("pointerdown", (event) => {
		const node = event.target.closest("#plot .node.replica");
		from = node && event.pointerType !== "touch" && event.button === 0 ? { key: node.dataset.node, x: event.clientX, y: event.clientY, moved: false } : null;
	});
	document.addEventListener("pointermove", (event) => {
		if (!from || from.moved || Math.hypot(event.clientX - from.x, event.clientY - from.y) < MIN_PIXELS) return;
		from.moved = true;
		mark(true);
	});
	document.addEventListener("pointerup", (event) => {
		const ended = from, over = ended && ended.moved ? target(event) : null;
		from = null;
		mark(false);
		const m = full.get(state.master), replica = over && over.dataset.node === "master" && m ? m.replicas.find((r) => r.name === ended.key) : null;
		if (replica) dropped(replica.address.address);
	});
	document.addEventListener("pointercancel", () => { from = null; mark(false); });
}
