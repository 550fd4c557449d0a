/* The checks of a group: what breaks a failover now, what will surprise, what to note. */
import { el } from "./elements.js";
import { json } from "./session.js";
import { changed, checks, icon } from "./state.js";
import { at, encoded, plural, sentence, when } from "./words.js";

const KINDS = { error: "bad", warning: "warn", note: "notice" };

/* Run them; they take about two seconds, and the Sentinel keeps their result for ten. */
export async function checkGroup(name) {
	checks.set(name, { running: true });
	changed();
	try {
		const [found] = await json(`v1/doctor?master=${encoded(name)}`);
		checks.set(name, found);
	} catch (problem) {
		checks.set(name, { problem: problem.message });
	}
	changed();
}

export function checksPart(name) {
	const found = checks.get(name), running = found && found.running;
	const button = el("button.plain", { "data-check": name, disabled: running ? "" : null }, running ? "Checking" : found ? "Check again" : "Check this group");
	if (!found || running) return [el("p.muted", "Twenty checks read all Sentinels and servers of the group. They change nothing."), button];
	if (found.problem) return [el("p", { role: "alert" }, sentence(found.problem)), button];
	const read = `${found.sentinels_read} of ${plural(found.sentinels, "Sentinel")} and ${found.servers_read} of ${plural(found.servers, "server")} read`;
	return [el("p.muted", `${plural(found.checks, "check")}, ${read}, `, when(at(found.at)), found.findings.length ? "" : ". Nothing was found."),
		found.findings.length > 0 && el("ul.findings", found.findings.map((f) => el("li", { class: KINDS[f.severity] },
			el("p", icon(KINDS[f.severity]), el("b", f.severity), ` ${f.check} `, el("span.mono", f.subject), ": ", sentence(f.text)),
			f.fix && el("code.command", f.fix)))), button];
}
