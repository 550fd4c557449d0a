/* Orders to the Sentinel: what would happen is shown first, and the name of the master must be typed. */
import { $, el, pair, show, visible } from "./elements.js";
import { act, openLogin } from "./session.js";
import { changed, full, state } from "./state.js";
import { at, bytes, encoded, path, sentence, short, took, when } from "./words.js";

/* The order in the dialog, null if there is none: kind, master, expect, and what the Sentinel has answered. */
let order = null;

const TITLES = { switchover: "Switch over", failover: "Force a failover", pause: "Pause failovers", resume: "End the pause" };
const may = (right) => state.rights.includes(right);
const known = () => (order ? full.get(order.master) : null);

/* The buttons in the view of a master. */
export function actionsPart(m) {
	if (!state.login) return [el("p.muted", "To switch over, to fail over or to pause failovers, log in."), el("button.plain", { "data-act": "login" }, "Log in")];
	if (!may("failover")) return el("p.muted", `The user ${state.user} has no right to order a failover.`);
	const button = (kind) => el("button.plain", { "data-act": kind }, `${TITLES[kind]}…`);
	return [el("p.buttons", m.status === "ok" && button("switchover"), button("failover"), button(m.pause ? "resume" : "pause")),
		m.status === "ok" && m.replicas.length > 0 && el("p.muted", "A replica that is dragged onto the master is checked as its successor.")];
}

/* Open the dialog; the replica in `to` is checked at once. */
export function begin(kind, to) {
	if (kind === "login" || !state.login) return openLogin();
	const m = full.get(state.master);
	if (!m) return;
	order = { kind, master: m.name, expect: { master: m.address.address, config_epoch: m.config_epoch } };
	renderOrder();
	$("order").showModal();
	if (kind === "switchover") {
		if (to) $("order-to").value = to;
		check();
	} else $("order-name").focus();
}

/* The dry run. What was checked before is void once another replica is chosen. */
export async function check() {
	const mine = order, to = $("order-to").value;
	Object.assign(mine, { to, plan: null, problem: null, checking: true });
	renderOrder();
	let found;
	try {
		const { body } = await act("POST", path(mine.master, "/switchover?wait=5000"), { dry_run: true, expect: mine.expect, ...(to && { to }) });
		const failed = body.problem || (body.reasons || [])[0] || (body.plan ? null : { text: `the check has ended as ${body.state}` });
		found = failed ? { problem: Object.assign(new Error(failed.text), { reasons: body.reasons }) } : { plan: body.plan };
	} catch (problem) {
		found = { problem };
	}
	if (mine.to !== to) return;
	Object.assign(mine, found, { checking: false });
	renderOrder();
}

function request() {
	const place = (rest) => path(order.master, rest);
	const comment = $("order-comment") ? $("order-comment").value : "";
	switch (order.kind) {
	case "switchover": return ["POST", `${place("/switchover")}?wait=2000`, { expect: order.expect, ...(order.to && { to: order.to }), ...(comment && { comment }) }];
	case "failover": return ["POST", place("/failover"), { expect: order.expect, ...(comment && { comment }) }];
	case "pause": return ["PUT", place("/pause"), { for_ms: Math.round(Number($("order-minutes").value) * 60000), ...(comment && { reason: comment }) }];
	default: return ["DELETE", place("/pause"), null];
	}
}

export async function confirm(event) {
	event.preventDefault();
	if (!order || order.result || order.running || $("order-name").value !== visible(order.master) || (order.kind === "switchover" && !order.plan)) return;
	const mine = order, sent = request();
	Object.assign(mine, { running: true, problem: null });
	renderOrder();
	try {
		let { status, body } = await act(...sent);
		while (order === mine && mine.kind === "switchover" && status === 202) {
			mine.result = body;
			renderOrder();
			({ status, body } = await act("GET", `v1/operations/${encoded(body.operation_id)}?wait=2000`));
			if (!["done", "failed", "cancelled"].includes(body.state)) status = 202;
		}
		mine.result = body || {};
	} catch (problem) {
		mine.problem = problem;
	}
	mine.running = false;
	renderOrder();
	changed();
}

export function end() {
	order = null;
	$("order").close();
}

/* The content of the dialog. */
const problemPart = (p) => p && el("div.problem", { role: "alert" }, p.reasons && p.reasons.length
	? el("ul", p.reasons.map((r) => el("li", r.subject && [el("span.mono", r.subject), ": "], sentence(r.text)))) : el("p", sentence(p.message)));

function planPart(m) {
	const p = order.plan;
	if (order.checking) return el("p", "Checking what would happen.");
	if (!p) return null;
	return el("dl", pair("Master", [el("span.mono", p.old.address), " → ", el("b.mono", p.candidate.address)]), pair("Method", `${p.method}: ${p.why}`),
		pair("Behind", bytes(p.lag_bytes)), pair("Writes are held", `at most ${took(p.hold_limit_ms)}, or it is aborted`),
		pair("Sentinels", `${p.votes_reachable} reached, ${p.votes_needed} needed`));
}
function failoverPart(m) {
	const next = m.replicas.find((r) => r.would_be_promoted);
	if (!next) return el("p", el("b", "No replica can be promoted now: the Sentinel will refuse this."));
	return [el("dl", pair("Master", [el("span.mono", m.address.address), " → ", el("b.mono", next.address.address)]), pair("Behind", next.lag_bytes === null ? "unknown" : bytes(next.lag_bytes))),
		el("p", m.status === "ok" ? "The other Sentinels are not asked. What the replica has not received of the master is lost." : "The other Sentinels are not asked. If they reach the master, there can be two for a moment.")];
}
function resultPart() {
	const r = order.result, receipt = r.receipt;
	if (order.kind === "failover") return el("p", el("b", "The failover has started."), " The view of the master shows how it goes on.");
	if (order.kind === "resume") return el("p", el("b", "The pause has ended."));
	if (order.kind === "pause") {
		return [el("p", el("b", "Failovers are paused"), r.until ? [" until ", when(at(r.until))] : "", "."),
			(r.sentinels || []).length > 0 && el("ul", r.sentinels.map((s) => el("li", el("span.mono", short(s.id || s.sentinel_id)), ": ", s.state || s.result, s.why ? `, ${s.why}` : "")))];
	}
	return [el("p", el("b", r.state === "done" ? "Switched over." : order.running ? "Switching over." : sentence(r.problem ? r.problem.text : r.state))),
		el("ol.steps", (r.steps || []).map((s) => el("li", el("span.num", took(s.after_ms)), " ", sentence(s.text)))),
		receipt && el("dl", pair("Receipt", receipt.verdict), pair("Why", sentence(receipt.why)))];
}

function renderOrder() {
	const m = known();
	if (!order || !m) return;
	const started = order.running || order.result, ready = order.kind !== "switchover" || order.plan;
	show("order-title", `${TITLES[order.kind]}: `, el("span.name", m.name));
	show("order-body",
		order.kind === "switchover" && el("label", { "data-key": "to", hidden: started }, "To ", el("select", { id: "order-to" }, el("option", { value: "" }, "the best replica"),
			m.replicas.map((r) => el("option", { value: r.address.address }, `${r.address.address}${r.fit ? "" : ", unfit"}`)))),
		order.kind === "pause" && !started && [el("label", { "data-key": "minutes" }, "Minutes ", el("input", { id: "order-minutes", type: "number", min: 1, max: 1440, value: 30, required: "" })),
			el("p.muted", { "data-key": "hint" }, "A pause ends by itself, after a day at most.")],
		!order.result && { switchover: planPart, failover: failoverPart, pause: () => null, resume: () => null }[order.kind](m),
		problemPart(order.problem), order.result && el("div", { role: "status" }, resultPart()),
		!started && order.kind !== "resume" && el("label", { "data-key": "comment" }, order.kind === "pause" ? "Reason " : "Comment ", el("input", { id: "order-comment", maxlength: 500 })),
		!order.result && el("label", { "data-key": "name" }, "Type the name of the master to go on ", el("input", { id: "order-name", autocomplete: "off", spellcheck: "false", disabled: ready && !order.running ? null : "" })));
	show("order-buttons", !order.result && el("button.primary", { type: "submit", "data-key": "go", disabled: ready && !order.running ? null : "" }, order.running ? "Ordered" : TITLES[order.kind]),
		el("button.plain", { type: "button", "data-act": "end", "data-key": "end" }, order.result ? "Close" : "Cancel"));
}
