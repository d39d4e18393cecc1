"use strict";
// Everything comes from /status.json and is put in as text, never as HTML: names are other people's.
const BADNESS = { frozen: 5, held: 4, loading: 3, backup: 2, stale: 1, live: 0 };
const PAGE = 100; // rows at first, and more with each "show more"
const MOST = 1000; // rows that a browser lays out while somebody types
const CHANGES = 10;
const SIGNS = { added: "+", changed: "~", removed: "−" };
const byId = (id) => document.getElementById(id);
let services = [];
let changes = [];
let shown = PAGE, shownChanges = CHANGES;
let sentChanges = "";
const opened = new Set();

function seconds(value) {
	if (value === null || value === undefined) return "–";
	const steps = [["d", 86400], ["h", 3600], ["min", 60]];
	for (const [unit, size] of steps)
		if (value >= 2 * size) return Math.floor(value / size) + " " + unit;
	return Math.floor(value) + " s";
}

function bytes(value) {
	const units = ["B", "kB", "MB", "GB"];
	let n = value, i = 0;
	while (n >= 1000 && i < units.length - 1) { n /= 1000; i++; }
	return (i === 0 ? n : n.toFixed(1)) + " " + units[i];
}

function element(name, text, className) {
	const made = document.createElement(name);
	if (text !== undefined) made.textContent = text;
	if (className) made.className = className;
	return made;
}

function cell(text, label) {
	const made = element("td", text, "number");
	made.dataset.label = label;
	return made;
}

function isProblem(service) {
	return service.state !== "live" || service.last_error !== null;
}

// Worst first, then by name.
function compare(a, b) {
	return (BADNESS[b.state] ?? 9) - (BADNESS[a.state] ?? 9) ||
		(b.last_error !== null) - (a.last_error !== null) || (a.name < b.name ? -1 : 1);
}

function put(list, term, text, className) {
	list.append(element("dt", term), element("dd", text, className));
}

function detailRow(service) {
	const row = element("tr", undefined, "detail"), place = element("td"), list = element("dl");
	place.colSpan = 6;
	if (service.last_error)
		put(list, "error", `${service.last_error.kind}: ${service.last_error.message}, next try in ${seconds(service.last_error.retry_in_seconds)}`, "bad");
	if (service.held)
		put(list, "held", `${service.held.reason}; consulcfg-diff ${service.name} held shows it, consulcfg-accept ${service.name} takes it`, "bad");
	if (service.frozen)
		put(list, "frozen", `by ${service.frozen.by}: ${service.frozen.reason ?? ""}; consulcfg-thaw ${service.name} ends it`, "bad");
	for (const override of service.overridden)
		put(list, "override", `${override.key} by ${override.by}: ${override.reason ?? ""}`, "bad");
	for (const layer of service.layers)
		put(list, layer.prefix, `${layer.state}, ${layer.keys} keys, index ${layer.index}, age ${seconds(layer.age_seconds)}`);
	put(list, "generation", String(service.generation));
	if (service.digest) put(list, "digest", service.digest);
	if (service.backup && service.backup.age_seconds !== null)
		put(list, "backup", `${seconds(service.backup.age_seconds)} old`);
	if (service.backup && service.backup.error) put(list, "backup", service.backup.error, "bad");
	place.append(list);
	row.append(place);
	return row;
}

function serviceRow(service) {
	const row = element("tr"), name = element("td", undefined, "name");
	const button = element("button", service.name), state = element("td");
	button.type = "button";
	button.setAttribute("aria-expanded", String(opened.has(service.name)));
	button.addEventListener("click", () => {
		if (!opened.delete(service.name)) opened.add(service.name);
		render();
	});
	name.append(button);
	state.append(element("span", service.state, "state " + (service.state in BADNESS ? service.state : "bad")));
	if (service.last_error) state.append(element("span", " " + service.last_error.kind, "bad"));
	row.append(name, state, cell(seconds(service.age_seconds), "age"), cell(String(service.keys), "keys"),
		cell(bytes(service.bytes), "size"), cell(String(service.clients), "clients"));
	return row;
}

function render() {
	const wanted = byId("filter").value.toLowerCase(), only = byId("problems").checked;
	const found = services.filter((s) => s.name.toLowerCase().includes(wanted) && (!only || isProblem(s)));
	const rows = document.createDocumentFragment();
	const focused = document.activeElement && document.activeElement.closest("td.name") ? document.activeElement.textContent : null;
	for (const service of found.slice(0, shown)) {
		rows.append(serviceRow(service));
		if (opened.has(service.name)) rows.append(detailRow(service));
	}
	byId("services").replaceChildren(rows);
	if (focused !== null)
		for (const button of byId("services").querySelectorAll("button"))
			if (button.textContent === focused) button.focus();
	byId("rest").hidden = found.length <= shown;
	byId("rest").firstElementChild.textContent = shown < MOST ? `and ${found.length - shown} more` :
		`and ${found.length - shown} more: give a part of the name`;
	byId("more").hidden = shown >= MOST;
	const problems = services.filter(isProblem).length;
	byId("counts").textContent = `${found.length} of ${services.length}, ${problems} with problems`;
}

function changeItem(change) {
	const item = element("li"), what = element("span", undefined, "what"), at = new Date(change.at * 1000);
	const time = element("time", at.toLocaleString("sv")); // year-month-day, as in logs
	time.dateTime = at.toISOString();
	for (const key of change.keys)
		what.append(element("span", `${SIGNS[key.change] ?? "?"} ${key.key}`, "key " + (key.change in SIGNS ? key.change : "bad")));
	const left = change.added + change.changed + change.removed - change.keys.length;
	if (change.added === null) what.append(element("span", "other contents, not compared", "key"));
	else if (left > 0) what.append(element("span", `and ${left} keys more`, "key"));
	what.append(element("span", `generation ${change.generation}`, "generation"));
	item.append(time, element("span", change.service, "service"), what);
	return item;
}

// What is selected in the list stays while nothing in it changes.
function renderChanges() {
	const wanted = byId("filter").value.toLowerCase();
	const found = changes.filter((change) => change.service.toLowerCase().includes(wanted));
	const sent = shownChanges + JSON.stringify(found);
	byId("last").hidden = found.length === 0;
	if (found.length > 0)
		byId("last").textContent = `last change ${seconds(Math.max(Date.now() / 1000 - found[0].at, 0))} ago: ${found[0].service}`;
	if (sent === sentChanges) return;
	sentChanges = sent;
	byId("recent").hidden = found.length === 0;
	byId("changes").replaceChildren(...found.slice(0, shownChanges).map(changeItem));
	byId("older").hidden = found.length <= shownChanges;
}

function say(trouble) {
	byId("trouble").hidden = trouble === null;
	if (trouble !== null) byId("trouble").textContent = trouble;
}

async function refresh() {
	try {
		const answer = await fetch("/status.json", { cache: "no-store" });
		if (!answer.ok) throw new Error("status " + answer.status);
		const status = await answer.json();
		const daemon = status.daemon;
		services = status.services.sort(compare);
		changes = status.changes;
		byId("daemon").textContent = `version ${daemon.version}, up ${seconds(daemon.uptime_seconds)}, source ${daemon.source} with ` +
			`${daemon.source_connections} connections, ${daemon.clients} clients`;
		say(null);
		render();
		renderChanges();
	} catch (error) {
		say(`The daemon does not answer (${error.message}). What is shown is old; services read on from their own memory.`);
	}
	setTimeout(refresh, document.hidden ? 15000 : services.length > 2000 ? 5000 : 2000);
}

byId("filter").addEventListener("input", () => { shown = PAGE; render(); renderChanges(); });
byId("problems").addEventListener("change", () => { shown = PAGE; render(); });
byId("more").addEventListener("click", () => { shown = Math.min(shown + 3 * PAGE, MOST); render(); });
byId("older").addEventListener("click", () => { shownChanges += 9 * CHANGES; renderChanges(); });
refresh();
