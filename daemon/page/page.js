"use strict";
// Everything comes from /status.json and is put in as text, never as HTML: names are other people's.
const BADNESS = { frozen: 5, held: 4, loading: 3, backup: 2, stale: 1, live: 0 };
const PAGE = 100;
const byId = (id) => document.getElementById(id);
let services = [];
let shown = PAGE;
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
	if (service.overrides > 0)
		put(list, "overrides", String(service.overrides), "bad");
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
	byId("more").hidden = found.length <= shown;
	const problems = services.filter(isProblem).length;
	byId("counts").textContent = `${found.length} of ${services.length}, ${problems} with problems`;
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
		byId("daemon").textContent = `version ${daemon.version}, up ${seconds(daemon.uptime_seconds)}, source ${daemon.source} with ` +
			`${daemon.source_connections} connections, ${daemon.clients} clients`;
		say(null);
		render();
	} catch (error) {
		say(`The daemon does not answer (${error.message}). What is shown is old; services read on from their own memory.`);
	}
	setTimeout(refresh, document.hidden ? 15000 : services.length > 2000 ? 5000 : 2000);
}

byId("filter").addEventListener("input", () => { shown = PAGE; render(); });
byId("problems").addEventListener("change", () => { shown = PAGE; render(); });
byId("more").addEventListener("click", () => { shown += 10 * PAGE; render(); });
refresh();
