"use strict";
// What users wrote reaches the page by textContent alone.
const SHOWN = 20;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

const shown = (value) => value === null || value === undefined ? "unknown" : String(value);

function side(title, text, facts) {
  return element("div", {}, element("strong", {}, title), " ", element("span", { class: "soft" }, facts),
    element("pre", { tabindex: "0", "aria-label": title }, text === null ? "(no answer)" : text));
}

function verdicts(said) {
  if (!said.length) return element("p", { class: "soft" }, "No judge said anything of these two.");
  const head = element("tr", {}, ...["judge", "chosen", "rejected", "shown", "reason"].map((name) => element("th", { scope: "col" }, name)));
  const body = said.map(([judge, chosen, rejected, reason, order]) => element("tr", {},
    element("th", { scope: "row" }, judge), element("td", {}, shown(chosen)),
    element("td", {}, order && chosen !== null ? shown(Math.round((1 - chosen) * 1e4) / 1e4) : shown(rejected)),
    element("td", {}, order || "alone"), element("td", {}, reason)));
  const table = element("table", {}, element("caption", {}, "Verdicts: a score of each, or the probability of being the better one"),
    element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Verdicts" }, table);
}

const DRAW = {
  pairs: (row) => element("article", { class: "row" },
    element("h3", {}, `Pair ${row.order}`), element("p", { class: "soft" },
      `${row.competency} · phase ${row.phase} · margin ${shown(row.margin)} · kinship ${shown(row.kinship)} · difficulty ${shown(row.difficulty)} · prompt ${row.prompt_id}`),
    element("pre", { tabindex: "0", "aria-label": "prompt" }, row.prompt),
    element("div", { class: "sides" },
      side("chosen", row.chosen, `${row.chosen_model}, reward ${shown(row.chosen_reward)}`),
      side("rejected", row.rejected, `${row.rejected_model}, reward ${shown(row.rejected_reward)}`)),
    verdicts(row.verdicts)),
  heldout: (row) => element("article", { class: "row" },
    element("h3", { class: row.outcome === "worse" ? "bad" : null }, `${row.outcome}: ${row.competency}`), element("p", { class: "soft" },
      `change ${shown(row.change)} · sample ${row.sample} · prompt ${row.prompt_id}${row.reference === null ? "" : ` · reference ${row.reference}`}`),
    element("pre", { tabindex: "0", "aria-label": "prompt" }, row.prompt),
    element("div", { class: "sides" }, side("base", row.base, `reward ${shown(row.base_reward)}`),
      side("aligned", row.aligned, `reward ${shown(row.aligned_reward)}`))),
};

function outcome(change) {
  if (change === null) return "not judged";
  return change < 0 ? "worse" : change > 0 ? "better" : "unchanged";
}

function browser(form) {
  const kind = form.dataset.browser;
  const { columns, rows } = JSON.parse(document.getElementById(`data-${kind}`).textContent);
  const all = rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
  if (kind === "heldout") for (const row of all) row.outcome = outcome(row.change);
  for (const select of form.querySelectorAll("select[data-column]")) {
    const values = [...new Set(all.map((row) => row[select.dataset.column]))].sort((a, b) => a < b ? -1 : a > b ? 1 : 0);
    for (const value of values) select.append(element("option", { value: String(value) }, String(value)));
  }
  const list = document.getElementById(`list-${kind}`), count = document.getElementById(`count-${kind}`);
  const [back, on] = document.querySelectorAll(`#turn-${kind} button`);
  let page = 0, chosen = all;
  const texts = kind === "pairs" ? ["prompt", "chosen", "rejected", "prompt_id"] : ["prompt", "base", "aligned", "reference", "prompt_id"];

  function draw() {
    const last = Math.max(0, Math.ceil(chosen.length / SHOWN) - 1);
    page = Math.min(Math.max(page, 0), last);
    const part = chosen.slice(page * SHOWN, (page + 1) * SHOWN);
    list.replaceChildren(...part.map(DRAW[kind]));
    count.textContent = chosen.length ? `${page * SHOWN + 1} to ${page * SHOWN + part.length} of ${chosen.length} that match (${all.length} on this page)` : "Nothing matches.";
    back.disabled = page === 0;
    on.disabled = page === last;
  }

  function filter() {
    const tests = [];
    for (const field of form.querySelectorAll("[data-column]")) {
      const { column, bound } = field.dataset, value = field.value;
      if (value === "") continue;
      if (bound === "least") tests.push((row) => row[column] !== null && row[column] >= Number(value));
      else if (bound === "most") tests.push((row) => row[column] !== null && row[column] <= Number(value));
      else tests.push((row) => String(row[column]) === value);
    }
    const words = form.querySelector("input[type=search]").value.toLowerCase();
    if (words) tests.push((row) => texts.some((name) => row[name] !== null && String(row[name]).toLowerCase().includes(words)));
    chosen = all.filter((row) => tests.every((test) => test(row)));
    const order = form.querySelector("select[data-sort]")?.value;
    if (order) {
      const [name, down] = order.split(" ");
      const missing = (row) => row[name] === null;
      chosen = [...chosen].sort((a, b) => missing(a) - missing(b) || (down ? b[name] - a[name] : a[name] - b[name]));
    }
    page = 0;
    draw();
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  back.addEventListener("click", () => { page -= 1; draw(); });
  on.addEventListener("click", () => { page += 1; draw(); });
  draw();
}

document.querySelectorAll("form[data-browser]").forEach(browser);

// The values of a mark under the pointer, as its aria-label says them.
const tip = element("div", { class: "tip", hidden: "", role: "presentation" });
document.body.append(tip);
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.("svg [aria-label][role=graphics-symbol]:not(.mark-group)");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.getAttribute("aria-label");
  tip.style.left = `${Math.min(event.pageX + 12, document.documentElement.clientWidth - 220)}px`;
  tip.style.top = `${event.pageY + 12}px`;
});
