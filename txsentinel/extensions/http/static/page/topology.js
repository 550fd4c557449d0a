/* The drawing of one group, and the details of the selected node. */
import { $, el, pair, svg } from "./elements.js";
import { SHAPES, lost, state } from "./state.js";
import { ago, at, bytes, count, duration, sentence, short, when } from "./words.js";

/* The drawing: a tree beside the Sentinels if it fits, else one node below the other. */
const WIDTH = 204, HEIGHT = 58, GAP = 20, LEVEL = 108;

function nodesOf(m) {
	const nodes = [{ key: "master", kind: "master", item: m, parent: null, text: m.address.address, state: m.status === "ok" ? "ok" : "bad",
		note: m.status === "ok" ? "master" : m.status === "odown" ? "master, down" : "master, no answer" }];
	const byAddress = new Map(m.replicas.flatMap((r) => [[r.name, r.name], [r.address.address, r.name]]));
	for (const r of m.replicas) {
		const follows = r.master_address ? byAddress.get(r.master_address.address) : null;
		const gone = lost(r), promoted = m.failover && m.failover.promoted === r.name;
		nodes.push({ key: r.name, kind: "replica", item: r, parent: follows && follows !== r.name ? follows : "master", text: r.address.address,
			state: gone ? "bad" : r.fit ? "ok" : "warn", gone, next: r.would_be_promoted || promoted, linked: r.master_link_up && !gone,
			note: gone ? "replica, no answer" : promoted ? "being promoted" : r.would_be_promoted ? "next to be promoted" : r.fit ? "replica" : `unfit: ${r.unfit_text || r.unfit_code}`,
			lag: gone ? "" : !r.master_link_up ? "link down" : r.lag_bytes === null ? "" : `${bytes(r.lag_bytes)} behind` });
	}
	const known = new Map(nodes.map((n) => [n.key, n]));
	for (const n of nodes) {
		for (let i = 0, up = n; (up = known.get(up.parent)); i++) if (i > nodes.length) { n.parent = "master"; break; }
	}
	return nodes;
}
function sentinelsOf(m) {
	const own = { key: "self", kind: "sentinel", item: null, text: state.me ? state.me.listens[0] || short(state.me.sentinel_id) : "this Sentinel", state: "ok",
		note: `this Sentinel considers it ${m.status === "ok" ? "up" : "down"}` };
	return [own, ...m.peers.map((p) => ({ key: p.sentinel_id, kind: "sentinel", item: p, text: p.address.address, gone: lost(p), state: lost(p) ? "bad" : "ok",
		note: lost(p) ? "Sentinel, no answer" : `considers it ${p.reports_master_down ? "down" : "up"}${p.voted_leader && m.status !== "ok" ? `, voted ${short(p.voted_leader)}` : ""}` }))];
}
function cut(text, most) {
	return text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(text.length - Math.floor(most / 2))}`;
}

export let plotWidth = 0;
export function drawing(m) {
	const nodes = nodesOf(m), sentinels = sentinelsOf(m), box = $("plot");
	const available = plotWidth = Math.max(260, box ? box.clientWidth - 8 : innerWidth - 60);
	const children = (key) => nodes.filter((n) => n.parent === key);
	const place = (n, depth, x) => {
		let right = x;
		n.depth = depth;
		for (const child of children(n.key)) right = place(child, depth + 1, right) + GAP;
		right = Math.max(x + WIDTH, right - GAP);
		n.x = (x + right - WIDTH) / 2;
		n.y = depth * LEVEL;
		return right;
	};
	const treeWidth = place(nodes[0], 0, 1), wide = treeWidth + 60 + WIDTH <= available;
	const lines = [];
	const step = 34, indent = Math.min(6, Math.max(...nodes.map((n) => n.depth))) * step, half = HEIGHT / 2;
	const beside = wide || available >= 700, width = wide || !beside ? WIDTH : Math.min(420, available - indent - WIDTH - 80);
	let height = 0;
	if (wide) {
		for (const n of nodes.slice(1)) {
			const p = nodes.find((each) => each.key === n.parent), x1 = p.x + WIDTH / 2, y1 = p.y + HEIGHT, x2 = n.x + WIDTH / 2, mid = (y1 + n.y) / 2;
			lines.push(arrow(n, `M${x1} ${y1}C${x1} ${mid} ${x2} ${mid} ${x2} ${n.y - 7}`));
			if (n.lag) lines.push(label(n.lag, x2, n.y - 16, n.linked));
		}
	} else {
		const stack = (n) => {
			Object.assign(n, { x: 1 + Math.min(n.depth, 6) * step, y: height });
			height += HEIGHT + 12;
			const mine = children(n.key);
			for (const child of mine) {
				stack(child);
				lines.push(arrow(child, `M${n.x + 13} ${child.y + half}H${child.x - 7}`));
			}
			if (mine.length) lines.unshift(svg("path.link", { "stroke-width": 1.5, d: `M${n.x + 13} ${n.y + HEIGHT}V${mine[mine.length - 1].y + half}` }));
		};
		stack(nodes[0]);
	}
	for (const n of nodes) n.width = wide ? WIDTH : (beside ? width + indent : Math.min(available, 460)) - n.x - 1;
	const right = Math.max(...nodes.map((n) => n.x + n.width)), column = beside ? right + 70 : 1 + step, bus = beside ? column - 22 : 5;
	sentinels.forEach((n, i) => {
		Object.assign(n, { x: column, y: (beside ? 0 : height + 10) + i * (HEIGHT + 12) });
		n.width = beside ? Math.min(260, available - column - 1) : right - column;
		const gone = n.gone ? "watch gone" : "watch";
		if (i === 0) lines.push(svg("path.watch", { d: beside ? `M${nodes[0].x + nodes[0].width} ${half}H${column}` : `M${bus} ${HEIGHT}V${n.y + half}H${column}` }));
		else lines.push(svg("path", { class: gone, d: `M${bus} ${sentinels[i - 1].y + half}V${n.y + half}H${column}` }));
	});
	height = Math.max(...[...nodes, ...sentinels].map((n) => n.y)) + HEIGHT;
	const whole = Math.max(right, column + sentinels[0].width) + 1;
	return svg("svg", { width: whole, height: height + 2, viewBox: `0 -1 ${whole} ${height + 2}` },
		svg("defs", svg("marker", { id: "head", viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8Z", class: "head" }))),
		svg("g", lines), [...nodes, ...sentinels].map((n) => node(n, wide)));
}
const arrow = (n, d) => svg("path", { class: n.linked ? "link" : "link down", d, "marker-end": "url(#head)", "stroke-width": 1.5 + Math.min(4, Math.log10((n.item.lag_bytes || 0) + 1) / 2) });
const label = (text, x, y, linked) => svg("g", svg("rect.label-back", { x: x - text.length * 3.4 - 4, y: y - 13, width: text.length * 6.8 + 8, height: 18, rx: 3 }),
	svg("text", { class: linked ? "label" : "label down", x, y, "text-anchor": "middle" }, text));
function node(n, wide) {
	const chars = Math.floor((n.width - 46) / 7.9), note = wide || !n.lag ? n.note : n.kind === "replica" ? `${n.lag}, ${n.note}` : n.note;
	const chosen = state.selected === n.key, rx = n.kind === "sentinel" ? 29 : 6, inset = n.kind === "sentinel" ? 22 : 14;
	return svg("g", { "data-key": n.key, "data-node": n.key, class: `node ${n.kind} ${n.gone ? "gone" : n.state}${chosen ? " chosen" : ""}`, transform: `translate(${n.x} ${n.y})`,
		role: "button", tabindex: 0, "aria-pressed": chosen ? "true" : "false" },
		svg("title", `${n.text}: ${note}`),
		svg("rect.frame", { width: n.width, height: HEIGHT, rx }), n.next && svg("rect.inner", { x: 3.5, y: 3.5, width: n.width - 7, height: HEIGHT - 7, rx: 4 }),
		svg("path", { class: `shape ${n.state}`, d: SHAPES[n.state], transform: `translate(${inset} 10)`, "fill-rule": "evenodd" }),
		svg("text.address", { x: inset + 23, y: 24 }, cut(n.text, chars - (inset > 14 ? 2 : 0))),
		svg("text.note", { x: inset, y: 45 }, cut(note, Math.floor((n.width - 2 * inset) / 6.6))));
}

export function details(m) {
	const n = [...nodesOf(m), ...sentinelsOf(m)].find((each) => each.key === state.selected);
	if (!n) return el("p.muted", "Select a node for its details.");
	const x = n.item, failure = x && x.failure, hello = ((m.probes || {})[n.key] || {}).last_hello_at;
	const common = x && [pair("Flags", x.flags.join(", ")), x.sdown_since && pair("No answer", ["for ", ago(at(x.sdown_since)), ", since ", when(at(x.sdown_since))]),
		failure && pair("Failure", [`${failure.error} (${failure.failure_class}), `, when(at(failure.at))])];
	const parts = {
		master: () => [pair("Run ID", x.run_id, "mono"), pair("Replication ID", x.replid, "mono"), pair("Offset", x.offset !== null && count(x.offset)), pair("Config epoch", count(x.config_epoch)), common],
		replica: () => [pair("Promotion", x.fit ? (x.would_be_promoted ? "would be promoted next" : "fit") : `unfit: ${x.unfit_text || x.unfit_code}`), pair("Behind", x.lag_bytes !== null && bytes(x.lag_bytes)),
			pair("Priority", count(x.priority)), pair("Offset", count(x.offset)),
			pair("Link to its master", x.master_link_up ? "up" : x.master_link_down_ms === null ? "never up" : `down for ${duration(x.master_link_down_ms)}`), pair("Follows", x.master_address && x.master_address.address, "mono"),
			pair("Run ID", x.run_id, "mono"), pair("Replication ID", x.replid, "mono"), common],
		sentinel: () => (x ? [pair("Kind", x.kind === "c" ? "redis-sentinel or valkey-sentinel" : x.kind), pair("ID", x.sentinel_id, "mono"), pair("Considers the master", x.reports_master_down ? "down" : "up"),
			pair("Last hello", hello ? when(at(hello)) : "none"), pair("Last vote", x.voted_leader && `for ${short(x.voted_leader)} in epoch ${x.voted_epoch}`), common]
			: [pair("ID", state.me && state.me.sentinel_id, "mono"), pair("Listens", state.me && state.me.listens.join(", "), "mono")]),
	};
	return [el("h3", el("span.mono", n.text)), el("p", sentence(n.note), n.lag ? ` ${sentence(n.lag)}` : ""), el("dl", parts[n.kind]())];
}
