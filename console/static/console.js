"use strict";
/* What a tab does with the stream: show the counts, keep the rows true, say when data are stale.
   The server says everything whole; nothing is counted or decided here. */
(() => {
  const SILENCE_MS = 6000; // three beats of the server
  const PARTS_MS = 5000; // what the stream does not carry is asked for so often
  const WAITING = ["unacknowledged", "returned-unacknowledged"];
  const byId = (id) => document.getElementById(id);
  const stream = byId("stream");
  let seen = { epoch: null, revision: -1 };
  let heardMs = Date.now();
  let message = null;

  document.addEventListener("htmx:config:request", (event) => {
    const token = document.querySelector('meta[name="csrf-token"]').content;
    event.detail.ctx.request.headers["X-CSRF-Token"] = token;
  });

  const clock = (seconds) => new Date(1000 * seconds).toISOString().slice(11, 19) + " UTC";

  function waiting() {
    const number = message.num_waiting;
    return number ? ` ${number} of what you asked for ${number === 1 ? "waits" : "wait"} for it.` : "";
  }

  function showStale() {
    const banner = byId("stale");
    let words = "";
    if (Date.now() - heardMs > SILENCE_MS) words = `No connection to the console. Data stale since ${clock(heardMs / 1000)}.`;
    else if (message && !message.is_complete && message.away_since_s === null) words = "Reading the alarms. What is shown is not complete yet.";
    else if (message && message.away_since_s !== null) words = `The broker is away. Data stale since ${clock(message.away_since_s)}.${waiting()}`;
    else if (message) {
      const stale = message.plants.filter((plant) => plant.stale_since_s !== null);
      const names = stale.map((plant) => `${plant.slug.split(".").pop()} (${plant.stale_since_s ? "since " + clock(plant.stale_since_s) : "no data yet"})`);
      if (names.length) words = `Data stale: ${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}.`;
    }
    if (banner.textContent !== words) banner.textContent = words;
    banner.hidden = words === "";
  }

  function showCounts() {
    for (const place of byId("counts").children) {
      const number = message.is_complete ? message.counts[place.dataset.count] : "–";
      const words = `${number} ${place.dataset.words}`;
      if (place.textContent !== words) place.textContent = words;
      place.classList.toggle("calls", place.dataset.count === "unacknowledged" && number > 0);
    }
    if (message.is_complete) {
      const calls = message.counts.unacknowledged;
      document.title = document.title.replace(/^(\(\d+\) )?/, calls ? `(${calls}) ` : "");
    }
  }

  function showPlants() {
    for (const plant of message.plants) {
      const card = document.querySelector(`[data-plant="${CSS.escape(plant.slug)}"].card`);
      if (!card) continue;
      for (const place of card.querySelectorAll("[data-field]")) {
        const field = place.dataset.field;
        if (field === "stale") {
          place.hidden = plant.stale_since_s === null;
          place.textContent = plant.stale_since_s ? `Data stale since ${clock(plant.stale_since_s)}` : "No data yet";
        } else place.textContent = plant[field] ?? "–";
      }
      card.toggleAttribute("data-calls", plant.unacknowledged > 0);
    }
  }

  function showRows() {
    const rows = byId("rows");
    if (!rows || !message.rows) return;
    const old = new Map([...rows.children].map((row) => [row.dataset.id, row]));
    const focused = document.activeElement && document.activeElement.closest("tr");
    const focusedId = focused ? focused.dataset.id : null;
    if (message.from === null) {
      const listed = new Set(message.rows.map((row) => row.id));
      for (const [id, row] of old) if (!listed.has(id)) row.remove();
    }
    for (const id of message.gone) old.get(id)?.remove();
    for (const { id, html } of message.rows) {
      const template = document.createElement("template");
      template.innerHTML = html.trim();
      const row = template.content.firstElementChild;
      const before = old.get(id);
      if (before && before.outerHTML === row.outerHTML) continue;
      if (before?.hasAttribute("aria-selected")) row.setAttribute("aria-selected", "true");
      if (before && before.isConnected) before.replaceWith(row);
      else rows.append(row);
      htmx.process(row);
      if (id === focusedId) row.querySelector("a").focus();
    }
    arrange();
  }

  const PRIORITIES = { high: 0, medium: 1, low: 2 };
  const STATES = { unacknowledged: 0, "returned-unacknowledged": 1, latched: 2, acknowledged: 3 };

  function isWanted(row, shown) {
    if (shown === "hidden") return row.classList.contains("hidden-alarm");
    if (shown === "waiting") return WAITING.includes(row.dataset.shown);
    return !shown || row.dataset.shown === shown;
  }

  function arrange() {
    const form = byId("filters");
    const rows = byId("rows");
    if (!form || !rows) return;
    const wanted = Object.fromEntries(new FormData(form));
    const text = wanted.text.trim().toLowerCase();
    const newer = (a, b) => (BigInt(a.dataset.since) < BigInt(b.dataset.since) ? 1 : -1);
    const urgency = (a, b) =>
      (a.dataset.kind === "advisory") - (b.dataset.kind === "advisory") ||
      (STATES[a.dataset.shown] ?? 9) - (STATES[b.dataset.shown] ?? 9) ||
      PRIORITIES[a.dataset.priority] - PRIORITIES[b.dataset.priority] ||
      newer(a, b);
    const orders = { urgency, newest: newer, oldest: (a, b) => newer(b, a) };
    const before = [...rows.children];
    const after = [...before].sort(orders[wanted.order]);
    if (after.some((row, place) => row !== before[place])) rows.append(...after);
    for (const row of after) {
      row.hidden =
        !isWanted(row, wanted.shown) ||
        (!wanted.hidden && wanted.shown !== "hidden" && row.classList.contains("hidden-alarm")) ||
        (wanted.priority && row.dataset.priority !== wanted.priority) ||
        (!wanted.advisories && row.dataset.kind === "advisory") ||
        (text && !row.textContent.toLowerCase().includes(text));
    }
    byId("none").hidden = after.some((row) => !row.hidden);
  }

  function follow() {
    const state = byId("state");
    if (!state || message.from === null) return;
    const isOpen = state.querySelector("details[open]"); // never take a form away while it is filled in
    if ((message.changed || []).includes(state.dataset.alarm) && !isOpen) htmx.trigger(state, "refresh");
    if (message.revision !== message.from && message.has_events) htmx.trigger(byId("history"), "refresh");
  }

  if (stream) {
    stream.addEventListener("picture", (event) => {
      const next = JSON.parse(event.detail.data);
      heardMs = Date.now();
      const follows = next.from === null || (next.epoch === seen.epoch && next.from === seen.revision);
      if (!follows) { location.reload(); return; } // never guess
      if (message?.num_waiting && !next.num_waiting) byId("said").textContent = "The broker is back: what you asked for was sent.";
      message = next;
      seen = { epoch: next.epoch, revision: next.revision };
      showCounts();
      showPlants();
      showRows();
      follow();
      showStale();
      for (const { name, why } of next.refused) byId("said").textContent = `${name} was not changed: ${why}.`;
    });
    stream.addEventListener("ended", () => location.assign("/login"));
    document.addEventListener("htmx:sse:error", (event) => { if (event.detail.status === 401) location.assign("/login"); });
    setInterval(showStale, 1000);
    setInterval(() => {
      if (document.hidden || !message?.is_complete) return;
      for (const part of document.querySelectorAll("[data-part]")) htmx.trigger(part, "refresh");
    }, PARTS_MS);
  }

  document.addEventListener("htmx:response:error", async (event) => {
    const raw = event.detail.ctx.response.raw;
    if (raw.status === 401) { location.assign("/login"); return; }
    if (event.detail.ctx.sourceElement?.hasAttribute("data-part")) return; // nobody asked: the banner says why it stands still
    let why = "it was refused";
    try { why = JSON.parse(event.detail.ctx.text).detail; } catch { /* not JSON: the words above say it */ }
    byId("said").textContent = `Not done: ${typeof why === "string" ? why : "a field is missing or wrong"}`;
  });
  // A form that was opened while an answer was on its way is not taken away either; once it is closed, all is asked anew.
  let isBehind = false;
  document.addEventListener("htmx:before:swap", (event) => {
    if (event.detail.ctx.sourceElement?.id !== "state" || !document.querySelector("#state details[open]")) return;
    isBehind = true;
    event.preventDefault();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.open || !isBehind || !event.target.closest("#state")) return;
    isBehind = false;
    htmx.trigger(byId("state"), "refresh");
  }, true);
  let clearing = 0;
  new MutationObserver(() => {
    const open = document.querySelector("#state details[open]");
    if (byId("said").textContent.endsWith("sent.") && open) { open.open = false; htmx.trigger(byId("state"), "refresh"); }
    clearTimeout(clearing);
    if (byId("said").textContent) clearing = setTimeout(() => { byId("said").textContent = ""; }, 8000);
  }).observe(byId("said") || document.createElement("p"), { childList: true });

  byId("filters")?.addEventListener("input", arrange);
  byId("filters")?.addEventListener("submit", (event) => event.preventDefault());
  if (byId("filters")) arrange();

  function move(step) {
    const rows = [...byId("rows").children].filter((row) => !row.hidden);
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.hasAttribute("aria-selected"));
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    for (const row of rows) row.removeAttribute("aria-selected");
    next.setAttribute("aria-selected", "true");
    next.scrollIntoView({ block: "nearest" });
    next.querySelector("a").focus();
  }

  document.addEventListener("keydown", (event) => {
    if (!byId("rows") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) return;
    const selected = document.querySelector("#rows tr[aria-selected]");
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "a" && selected) selected.querySelector('[data-key="a"]')?.click();
    else if (event.key === "/") byId("filters").elements.text.focus();
    else return;
    event.preventDefault();
  });
})();
