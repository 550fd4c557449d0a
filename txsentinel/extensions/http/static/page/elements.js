/* Building elements, and changing those in the document to match, which keeps focus, selection and scroll positions.
   Text from the network becomes text nodes or attributes only, never markup. */

export const $ = (id) => document.getElementById(id);

function fill(node, classes, children) {
	if (classes.length) node.setAttribute("class", classes.join(" "));
	const first = children[0];
	if (first && typeof first === "object" && !Array.isArray(first) && !(first instanceof Node)) {
		children.shift();
		for (const [name, value] of Object.entries(first)) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
	}
	for (const child of children.flat(Infinity)) {
		if (child !== null && child !== undefined && child !== false && child !== "") node.append(child.nodeType ? child : visible(child));
	}
	return node;
}
/* Bytes that are not UTF-8 are lone surrogates here, as in Python; control characters could hide or reorder text. */
export const visible = (text) => String(text).replace(/[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu, (c) => {
	const code = c.charCodeAt(0);
	return code > 255 && code < 0xd800 ? `\\u${code.toString(16)}` : `\\x${(code & 255).toString(16).padStart(2, "0")}`;
});

/* el("p.class", {attributes}, children…): the attributes may be left out. */
export function el(name, ...children) {
	const [tag, ...classes] = name.split(".");
	return fill(document.createElement(tag), classes, children);
}
export function svg(name, ...children) {
	const [tag, ...classes] = name.split(".");
	return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, children);
}

function match(old, fresh) {
	if (old.nodeType === Node.TEXT_NODE) {
		if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
		return;
	}
	for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
	for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
	matchChildren(old, [...fresh.childNodes]);
}

export function matchChildren(parent, fresh) {
	const focused = document.activeElement;
	const key = (node) => (node.dataset ? node.dataset.key : undefined);
	const keyed = new Map();
	for (const child of parent.childNodes) if (key(child)) keyed.set(key(child), child);
	let cursor = parent.firstChild;
	for (const node of fresh) {
		let found = key(node) ? keyed.get(key(node)) : cursor && !key(cursor) ? cursor : null;
		if (found && found.nodeName !== node.nodeName) found = null;
		if (!found) parent.insertBefore(node, cursor);
		else {
			keyed.delete(key(node));
			if (found === cursor) cursor = cursor.nextSibling;
			else parent.insertBefore(found, cursor);
			match(found, node);
		}
	}
	while (cursor) {
		const next = cursor.nextSibling;
		cursor.remove();
		cursor = next;
	}
	if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
export const show = (id, ...children) => matchChildren($(id), [...el("div", children).childNodes]);

export const pair = (term, value, type) => (value === null || value === undefined || value === "" || value === false ? null
	: [el("dt", term), el("dd", { class: type }, value)]);
