/* The head of the page, and the masters that need attention. */
import { $, el, show } from "./elements.js";
import { LEVELS, explanations, icon, level, masters, risk, since, state, status, urgent, why } from "./state.js";
import { POLL_MS } from "./updates.js";
import { ago, at, count, duration, left, link, onClock, plural, sentence, short, when } from "./words.js";

function headline() {
	const all = masters.size, problems = urgent();
	const down = problems.filter((m) => level(m) === 4), open = problems.filter((m) => level(m) === 3), risky = problems.filter(risk).length;
	if (!state.me) return ["notice", state.problem || "Loading"];
	if (!all) return ["notice", "No master is monitored"];
	if (down.length) return ["bad", all === 1 ? "The master is down" : `${count(down.length)} of ${count(all)} masters ${down.length === 1 ? "is" : "are"} down`];
	if (open.length) return ["warn", all === 1 ? "The master does not answer" : `${count(open.length)} of ${count(all)} masters do not answer`];
	if (state.me.tilt.active) return ["warn", "TILT: no decisions"];
	const up = all === 1 ? "The master is up" : all === 2 ? "Both masters are up" : `All ${count(all)} masters are up`;
	if (risky) return ["warn", `${up}, but ${all === 1 ? "it" : count(risky)} could not be failed over`];
	if (problems.length && all === 1) return ["notice", `${up}, but needs attention`];
	if (problems.length) return ["notice", `${up}; ${problems.length === 1 ? "one needs" : `${count(problems.length)} need`} attention`];
	return ["ok", `${up} and protected`];
}

export function renderTop() {
	const [kind, text] = headline(), me = state.me;
	const m = state.master !== null ? masters.get(state.master) : null;
	document.title = `${kind === "ok" ? "" : kind === "bad" ? "DOWN: " : "! "}${m ? m.name : text} – txsentinel`;
	$("overview").hidden = state.master !== null;
	$("master").hidden = $("health").hidden = false;
	if (state.master !== null) $("health").hidden = true;
	else {
		$("master").hidden = true;
		$("health").className = `health ${kind}`;
		show("headline", icon(kind), el("span", text));
		const counts = new Map();
		for (const each of masters.values()) {
			const name = each.failover ? "failing over" : ["fine", "to look at", "at risk", "without an answer", "down"][level(each)];
			counts.set(name, (counts.get(name) || 0) + 1);
		}
		$("counts").textContent = kind === "ok" || masters.size === 1 ? "" : [...counts].map(([name, n]) => `${count(n)} ${name}`).sort().join(" · ");
	}
	if (me) {
		show("self", "Sentinel ", el("b", me.listens[0] || "no port"), " ", el("span.muted", short(me.sentinel_id)));
		show("about", `txsentinel ${me.version} (${me.build}), pid ${me.pid}, up for ${duration(me.uptime_ms)}, epoch ${count(me.current_epoch)}`);
	}
	show("user", me && (state.login ? [`${state.user} `, el("button.plain", { "data-act": "logout" }, "Log out")] : el("button.plain", { "data-act": "login" }, "Log in")));
	const old = me && Date.now() - state.contactAt > 3 * POLL_MS;
	$("contact").className = `contact ${old || state.problem ? "bad" : state.live ? "ok" : "warn"}`;
	show("contact", old || state.problem ? "no contact" : state.live ? "live" : me ? "polling" : "connecting");
	const banners = [];
	if (me && (old || state.problem)) banners.push(["bad", ["No answer from this Sentinel for ", ago(onClock(state.contactAt)), `. What you see is from before. ${sentence(state.problem)}`]]);
	if (me && me.tilt.active) banners.push(["warn", ["TILT: no decisions", me.tilt.since ? [" since ", when(at(me.tilt.since))] : "", me.tilt.until ? [", for ", left(at(me.tilt.until))] : "", me.tilt.cause ? `. Cause: ${me.tilt.cause}` : ""]]);
	const paused = (m ? [m] : [...masters.values()]).filter((each) => each.pause);
	if (paused.length) {
		const [{ pause, name }] = paused;
		banners.push(["notice", paused.length > 1 ? [`Automatic failovers of ${count(paused.length)} masters are paused.`]
			: ["Automatic failovers of ", el("b", name), " are paused until ", when(at(pause.until)), `, by ${pause.by}`, pause.reason ? `: ${pause.reason}` : "", ". ",
				pause.guaranteed ? "No Sentinel can start one." : pause.obstacle ? sentence(pause.obstacle) : "A Sentinel that could not be reached may start one."]]);
	}
	if (me && me.storage.state !== "ok") banners.push(["bad", [`Decisions cannot be saved: ${me.storage.last_error || "unknown error"}. This Sentinel does not vote or fail over until they can.`]]);
	if (me && me.stopping) banners.push(["warn", ["This Sentinel is being stopped."]]);
	show("banners", banners.map(([type, content]) => el("p", { class: `banner ${type}` }, icon(type), el("span", content))));
}

export function renderProblems() {
	const problems = urgent();
	show("problems", problems.slice(0, 5).map((m) => {
		const explained = explanations.get(m.name), kind = LEVELS[level(m)], begun = since(m);
		const remedy = explained && explained.unblock[0];
		return el("article", { class: `card ${kind}`, "data-key": m.name },
			el("h3", icon(kind), link(m.name), el("span.state", status(m)),
				begun && el("span.since", "for ", el("b", ago(begun)), " since ", when(begun))),
			el("p", why(m)),
			remedy && el("p.do", el("b", "What to do: "), sentence(remedy.do), remedy.command && [" ", el("code", remedy.command)],
				explained.unblock.length > 1 && el("span.muted", ` (${plural(explained.unblock.length - 1, "other way")})`)));
	}), problems.length > 5 && el("p.muted", `${count(problems.length - 5)} more masters need attention; see the table.`));
}
