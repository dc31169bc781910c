"use strict";

const byId = (id) => document.getElementById(id);
const STATE_CLASS = { ready: "good", busy: "warn", loading: "warn", draining: "warn", down: "bad" };
const BREAKER_CLASS = { closed: "good", half_open: "warn", open: "bad" };
const PHASE = { queue: "in the queue", waiting: "waiting for the first token", generating: "generating" };
let latest = null;
let filter = "";

function node(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function cell(row, text, className) {
  const made = node("td", text, className);
  if (className && className.includes("long")) made.title = text;
  row.append(made);
  return made;
}

function opener(text, open) {
  const made = node("button", text);
  made.type = "button";
  made.addEventListener("click", open);
  return made;
}

function span(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "-";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.floor(milliseconds / 60000)} min ${Math.round((milliseconds % 60000) / 1000)} s`;
}

function matches(...texts) {
  return !filter || texts.some((text) => text && String(text).toLowerCase().includes(filter));
}

function keepPlace(update) {
  // Rows are made again: give the focus back to the button that had it.
  const active = document.activeElement;
  const key = active && active.dataset ? active.dataset.key : undefined;
  update();
  if (key) {
    const again = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (again) again.focus({ preventScroll: true });
  }
}

function showTotals(facts) {
  const values = [
    ["In flight", facts.running_total],
    ["In the queue", facts.pools.reduce((sum, p) => sum + p.queued_interactive + p.queued_batch, 0)],
    ["Tokens/s", Math.round(facts.pools.flatMap((p) => p.replicas).reduce((sum, r) => sum + r.tokens_per_s, 0))],
    ["Answered", facts.answered],
    ["Failed", facts.failed],
    ["Replicas ready", `${facts.replicas_ready} of ${facts.replicas_total}`],
  ];
  byId("totals").replaceChildren(...values.map(([name, value]) => {
    const box = node("div");
    box.append(node("dt", name), node("dd", value));
    return box;
  }));
}

function replicaRow(replica) {
  const row = node("tr");
  const open = opener(replica.replica_id, () => showReplica(replica));
  open.dataset.key = `replica ${replica.pool_id} ${replica.replica_id}`;
  const name = node("td");
  name.append(open);
  row.append(name);
  cell(row, replica.state, STATE_CLASS[replica.state]);
  cell(row, replica.breaker.replace("_", " "), BREAKER_CLASS[replica.breaker]);
  cell(row, replica.limit === null ? replica.in_flight : `${replica.in_flight} of ${replica.limit}`, "number");
  cell(row, replica.tokens_per_s.toFixed(0), "number");
  cell(row, span(replica.first_token_ms), "number");
  cell(row, replica.jobs, "number");
  cell(row, replica.failures, replica.failures ? "number warn" : "number");
  cell(row, [replica.engine, replica.engine_version].filter(Boolean).join(" ") || "-", "long");
  return row;
}

function showPools(pools) {
  const shown = pools.map((pool) => {
    const replicas = pool.replicas.filter((r) => matches(pool.pool_id, r.replica_id, r.state, r.engine));
    if (filter && !replicas.length && !matches(pool.pool_id)) return null;
    const box = node("div", null, "pool");
    const title = node("h3", pool.pool_id);
    title.append(
      node("span", `${pool.queued_interactive} waiting`),
      node("span", `${pool.queued_batch} batch waiting`),
      node("span", `${pool.jobs} jobs`),
      node("span", `${pool.retries} retries`),
    );
    if (pool.draining) title.append(node("span", "draining", "warn"));
    if (pool.mixed_versions.length) title.append(node("span", `mixed engine versions: ${pool.mixed_versions.join(", ")}`, "warn"));
    box.append(title);
    if (!replicas.length) {
      box.append(node("p", "No replica.", "empty"));
      return box;
    }
    const table = node("table");
    const head = node("tr");
    for (const [name, kind] of [["Replica"], ["State"], ["Breaker"], ["In flight", "number"], ["Tokens/s", "number"],
      ["First token", "number"], ["Attempts", "number"], ["Failed", "number"], ["Engine"]]) head.append(node("th", name, kind));
    const thead = node("thead");
    thead.append(head);
    const body = node("tbody");
    body.append(...replicas.map(replicaRow));
    table.append(thead, body);
    const scroll = node("div", null, "scroll");
    scroll.append(table);
    box.append(scroll);
    return box;
  }).filter(Boolean);
  byId("pools").replaceChildren(...(shown.length ? shown : [node("p", "No pool.", "empty")]));
}

function jobCell(row, jobId) {
  const open = opener(jobId.slice(0, 13), () => showJob(jobId));
  open.title = jobId;
  open.dataset.key = `job ${jobId}`;
  const made = node("td");
  made.append(open);
  row.append(made);
}

function fill(id, rows, columns, nothing) {
  if (!rows.length) {
    const row = node("tr");
    const only = node("td", nothing, "quiet");
    only.colSpan = columns;
    row.append(only);
    rows = [row];
  }
  byId(id).replaceChildren(...rows);
}

function showRunning(facts) {
  const jobs = facts.running.filter((j) => matches(j.job_id, j.pool_id, j.model, j.phase, j.replica_id, j.key));
  byId("running-count").textContent = jobs.length < facts.running_total ? `${jobs.length} of ${facts.running_total}` : `${facts.running_total}`;
  fill("running", jobs.map((job) => {
    const row = node("tr");
    jobCell(row, job.job_id);
    cell(row, job.pool_id);
    cell(row, job.model, "long");
    cell(row, PHASE[job.phase] + (job.priority === "batch" ? " (batch)" : ""));
    cell(row, job.replica_id || "-");
    cell(row, span(job.age_ms), "number");
    cell(row, job.tokens, "number");
    cell(row, job.key || "-");
    return row;
  }), 8, filter ? "No job in flight matches." : "No job is in flight.");
}

function showRecent(facts) {
  const jobs = facts.recent.filter((j) => matches(j.job_id, j.pool_id, j.model, j.code || "whole", j.replica_id, j.key));
  byId("recent-count").textContent = `${jobs.length}`;
  fill("recent", jobs.map((job) => {
    const row = node("tr");
    jobCell(row, job.job_id);
    cell(row, job.pool_id);
    cell(row, job.model, "long");
    cell(row, job.code ? `${job.status} ${job.code}` : "whole", job.code ? "bad" : "good");
    cell(row, job.replica_id || "-");
    cell(row, span(job.first_token_ms), "number");
    cell(row, span(job.took_ms), "number");
    cell(row, job.tokens, "number");
    cell(row, job.key || "-");
    return row;
  }), 9, filter ? "No recent job matches." : "No job has ended yet.");
}

function showEvents(events) {
  const shown = events.filter((e) => matches(e.text)).map((event) => {
    const item = node("li", null, event.level === "bad" ? "bad" : undefined);
    item.append(node("time", new Date(event.at_s * 1000).toLocaleTimeString()), node("span", event.text));
    return item;
  });
  byId("events").replaceChildren(...(shown.length ? shown : [node("li", "Nothing has happened.", "empty")]));
}

function show() {
  if (!latest) return;
  keepPlace(() => {
    showTotals(latest);
    showPools(latest.pools);
    showRunning(latest);
    showRecent(latest);
    showEvents(latest.events);
  });
}

function openDetail(title, ...content) {
  byId("detail-title").textContent = title;
  byId("detail-body").replaceChildren(...content);
  const dialog = byId("detail");
  if (!dialog.open) dialog.showModal();
}

async function showJob(jobId) {
  openDetail(`Job ${jobId}`, node("p", "Loading."));
  const answer = await fetch(`v1/jobs/${encodeURIComponent(jobId)}`);
  const facts = await answer.json();
  if (!answer.ok) {
    openDetail(`Job ${jobId}`, node("p", facts.error.message));
    return;
  }
  const table = node("table");
  const head = node("tr");
  for (const name of ["At", "Step", "Replica", "Reason", "Took", "Detail"]) head.append(node("th", name));
  table.append(head, ...facts.steps.map((step) => {
    const row = node("tr");
    cell(row, span(step.at_ms));
    cell(row, step.kind);
    cell(row, step.replica_id || "-");
    cell(row, step.reason);
    cell(row, span(step.took_ms));
    cell(row, step.detail, "long");
    return row;
  }));
  const scroll = node("div", null, "scroll");
  scroll.append(table);
  openDetail(`Job ${jobId}`, node("p", `Pool ${facts.pool_id}: ${facts.outcome || "running"}`), scroll);
}

async function showReplica(replica) {
  const title = `Replica ${replica.replica_id} of ${replica.pool_id}`;
  const answer = await fetch(`dashboard/replicas/${encodeURIComponent(replica.pool_id)}/${encodeURIComponent(replica.replica_id)}`);
  const facts = await answer.json();
  openDetail(title, node("p", replica.message || "The last health check said nothing."),
    node("h3", "Configuration"), node("pre", answer.ok ? facts.config : facts.error.message));
}

function connect() {
  const link = byId("link");
  const source = new EventSource("dashboard/events");
  source.addEventListener("message", (message) => {
    latest = JSON.parse(message.data);
    link.className = latest.draining ? "lost" : "live";
    link.textContent = latest.draining ? "shutting down" : "live";
    show();
  });
  source.addEventListener("error", () => {
    link.className = "lost";
    link.textContent = "connection lost, trying again";
  });
}

byId("search").addEventListener("input", (event) => {
  filter = event.target.value.trim().toLowerCase();
  show();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement.tagName !== "INPUT") {
    event.preventDefault();
    byId("search").focus();
  }
});
connect();
