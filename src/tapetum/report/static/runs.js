// The table of runs: filled and kept up to date from the server, filtered, sorted, and chosen for the curves.
"use strict";
(() => {
  const PERIOD = 3000; // milliseconds between two questions
  const AT_FIRST = 5; // runs whose curves are drawn before any is chosen
  const MOST_RESULTS = 6; // columns of results
  const OWN = ["state", "health", "method", "data"]; // what has a column, and whose filters stand first
  const UNSET = "not set";
  const byId = (id) => document.getElementById(id);
  const runs = new Map(); // id -> what the server says of it
  const lines = new Map(); // id -> its row of the table
  const texts = new Map(); // id -> what is searched
  const slots = []; // ids of the runs that are drawn, each at the place that gives its colour
  const filters = new Map(); // setting -> its <select>
  let revision = 0;
  let differing = new Map(); // setting -> Map(value -> how many runs)
  let results = new Map(); // protocol -> name
  let measured = 0; // how many there are, also beyond the columns
  let began = false;
  let lost = ""; // since when the server has not answered

  function make(kind, words, name) {
    const element = document.createElement(kind);
    if (words !== undefined) element.textContent = words;
    if (name) element.className = name;
    return element;
  }

  const facts = (run) => ({ __proto__: null, ...run.settings, state: run.state, health: run.word || "no record" });
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const ending = (path) => path.split("/").filter(Boolean).slice(-2).join("/");

  function ago(seconds) {
    const [unit, size] = [["s", 1], ["min", 60], ["h", 3600], ["d", 86400]].findLast(([, size]) => seconds >= size) || ["s", 1];
    return `${Math.floor(Math.max(seconds, 0) / size)} ${unit} ago`;
  }

  // ---- the table ----

  function cell(tr, what, ...parts) {
    const td = make("td");
    td.dataset.what = what;
    td.append(...parts);
    tr.append(td);
  }

  function line(run) {
    const tr = make("tr");
    const pick = make("input");
    pick.type = "checkbox";
    pick.setAttribute("aria-label", `Draw the curves of ${run.name}`);
    pick.addEventListener("change", () => choose([run.id], pick.checked));
    const label = make("label", undefined, "pick");
    label.append(pick, make("span", undefined, "swatch"));
    const link = make("a", run.name);
    link.href = `run/${run.id}`;
    link.target = "_blank";
    const said = [...run.notes];
    if (run.well === false) said.push(run.health);
    cell(tr, "", label);
    cell(tr, "run", link, make("div", differences(run), "muted"), ...said.map((note) => make("div", note, "note")));
    tr.lastChild.className = "name";
    if (run.state === "damaged") {
      cell(tr, "state", make("span", "damaged", "bad"));
      tr.lastChild.colSpan = 6 + results.size;
      return tr;
    }
    cell(tr, "method", run.settings.method || UNSET);
    cell(tr, "data", ending(run.settings.data || UNSET));
    tr.lastChild.title = run.settings.data || "";
    const wrote = make("div", "", "muted");
    wrote.dataset.wrote = run.wrote;
    cell(tr, "state", make("span", run.state, `state ${run.state.replace(" ", "-")}`), wrote);
    const epoch = run.epoch === null ? "not yet" : `${Number(run.epoch.toPrecision(3))}${run.epochs ? ` of ${run.epochs}` : ""}`;
    cell(tr, "epoch", epoch, make("div", `step ${run.step.toLocaleString("en")}${run.steps ? ` of ${run.steps.toLocaleString("en")}` : ""}`, "muted"));
    const kind = { true: "good", false: "bad" }[run.well];
    cell(tr, "health", make("span", run.word || "no record", kind || "muted"));
    tr.lastChild.title = run.health;
    if (run.knn) cell(tr, "kNN", percent(run.knn[1]), make("div", `before ${percent(run.knn[0])}`, "muted"));
    else cell(tr, "kNN", make("span", run.no_knn, "muted"));
    for (const [id, name] of results) {
      const found = run.results.find((one) => one.id === id);
      if (!found) cell(tr, name, make("span", "not measured", "muted"));
      else cell(tr, name, found.shown, make("div", found.random ? `random ${found.random}` : "", "muted"));
    }
    return tr;
  }

  function differences(run) {
    const own = facts(run);
    const found = [...differing.keys()].filter((name) => !OWN.includes(name) && own[name] !== undefined);
    return found.slice(0, 3).map((name) => `${name} ${ending(own[name])}`).join(" · ");
  }

  function table() {
    const columns = ["", "run", "method", "data", "state", "epoch", "health", "kNN", ...results.values()];
    byId("columns").replaceChildren(...columns.map((words) => {
      const th = make("th", words);
      th.scope = "col";
      return th;
    }));
    lines.clear();
    for (const run of runs.values()) lines.set(run.id, line(run));
    sorted();
  }

  // ---- filters and order ----

  function settings() {
    const counts = new Map();
    const every = [...runs.values()].map(facts);
    const readable = every.filter(({ state }) => state !== "damaged"); // the others have no settings that could differ
    for (const name of new Set([...OWN, ...every.flatMap(Object.keys)])) {
      const values = new Map();
      for (const own of name === "state" ? every : readable) values.set(own[name] ?? UNSET, (values.get(own[name] ?? UNSET) || 0) + 1);
      if (values.size > 1) counts.set(name, values);
    }
    return counts;
  }

  function offered() { // the filters, with what was chosen in them
    const before = new Map([...filters].map(([name, select]) => [name, select.value]));
    filters.clear();
    const labels = [...differing].map(([name, values]) => {
      const select = make("select");
      select.dataset.setting = name;
      select.append(new Option("any", ""));
      const order = [...values.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      for (const value of order) select.append(new Option(labelled(value, values), `=${value}`));
      if ([...select.options].some((one) => one.value === before.get(name))) select.value = before.get(name);
      select.addEventListener("change", apply);
      filters.set(name, select);
      const label = make("label", `${name} `);
      label.append(select);
      return [OWN.includes(name), label];
    });
    byId("filters").replaceChildren(...labels.filter(([first]) => first).map(([, label]) => label));
    byId("more").replaceChildren(...labels.filter(([first]) => !first).map(([, label]) => label));
    byId("rest").hidden = labels.every(([first]) => first);
    const sort = byId("sort");
    const chosen = sort.value || "newest";
    const orders = ["newest", "name", "epoch", "kNN", ...results.values()];
    sort.replaceChildren(...orders.map((name) => new Option(name, name)));
    sort.value = orders.includes(chosen) ? chosen : "newest";
  }

  function counted() { // how many runs have each value, written into filters which may stand open
    for (const [name, select] of filters) for (const option of [...select.options].slice(1)) option.textContent = labelled(option.value.slice(1), differing.get(name));
  }

  const labelled = (value, counts) => `${value} (${counts.get(value)})`;

  function shown(run) {
    const own = facts(run);
    for (const [name, select] of filters) if (select.value && `=${own[name] ?? UNSET}` !== select.value) return false;
    return byId("search").value.toLowerCase().split(/\s+/).every((word) => texts.get(run.id).includes(word));
  }

  function sorted() {
    const by = byId("sort").value || "newest";
    const result = [...results].find(([, name]) => name === by);
    const value = {
      __proto__: null,
      newest: (run) => run.wrote ?? 0,
      epoch: (run) => run.epoch ?? -1,
      kNN: (run) => (run.knn ? run.knn[1] : -1),
    }[by] || ((run) => (run.results || []).find((one) => result && one.id === result[0])?.value ?? -Infinity);
    const names = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
    const order = [...runs.values()].sort((a, b) => (by === "name" ? 0 : value(b) - value(a) || 0) || names(a, b));
    byId("runs").replaceChildren(...order.map((run) => lines.get(run.id)));
    apply();
  }

  function apply() {
    let count = 0;
    for (const [id, tr] of lines) {
      tr.hidden = !shown(runs.get(id));
      count += !tr.hidden;
      const slot = slots.indexOf(id);
      tr.querySelector("input").checked = slot >= 0;
      tr.querySelector(".swatch").className = `swatch ${slot >= 0 ? curves.slotClass(slot) : ""}`;
    }
    byId("runs").dataset.shown = count;
    tell(count);
  }

  function tell(count) {
    const drawn = slots.filter(Boolean).length;
    let words = `${count} of ${runs.size} runs shown, ${drawn} selected.`;
    if (measured > MOST_RESULTS) words += ` Of ${measured} numbers that were measured the first ${MOST_RESULTS} are shown.`;
    if (!runs.size) words = "There is no run yet.";
    else if (!results.size) words += " None was measured yet: tapetum evaluate RUN.";
    if (lost) words = `The server has not answered since ${lost}; the numbers are those of then.`;
    byId("told").textContent = words;
  }

  // ---- which are drawn ----

  function choose(ids, on) {
    for (const id of ids) {
      const at = slots.indexOf(id);
      if (on && at < 0) {
        const free = slots.indexOf(null);
        if (free < 0) slots.push(id);
        else slots[free] = id;
      } else if (!on && at >= 0) slots[at] = null;
    }
    apply();
    const picked = slots.flatMap((id, slot) => (id && runs.has(id) ? [{ id, slot, name: runs.get(id).name }] : []));
    return curves.show(picked);
  }

  byId("search").addEventListener("input", apply);
  byId("sort").addEventListener("change", sorted);
  byId("all").addEventListener("click", () => choose([...lines].filter(([, tr]) => !tr.hidden).map(([id]) => id), true));
  byId("none").addEventListener("click", () => choose([...runs.keys()], false));

  // ---- what the server says ----

  function take(answer) {
    byId("notes").replaceChildren(...answer.notes.map((note) => make("p", note)));
    const gone = [...runs.keys()].filter((id) => !answer.ids.includes(id));
    const news = Object.values(answer.runs);
    if (!news.length && !gone.length) return;
    for (const id of gone) {
      runs.delete(id);
      lines.get(id)?.remove();
      lines.delete(id);
    }
    if (gone.length) choose(gone, false);
    for (const run of news) {
      runs.set(run.id, { results: [], ...run });
      texts.set(run.id, [run.name, ...Object.entries(facts(run)).map((pair) => pair.join("="))].join("\n").toLowerCase());
    }
    const known = new Map([...runs.values()].flatMap((run) => run.results.map((one) => [one.id, one.name])));
    measured = known.size;
    const columns = apart(new Map([...known].slice(0, MOST_RESULTS)));
    const counts = settings();
    const same = told(columns, counts) === told(results, differing);
    const fresh = gone.length > 0 || news.some((run) => !lines.has(run.id));
    [results, differing] = [columns, counts];
    if (!same || !began) offered();
    else counted();
    if (!same || fresh) table();
    else news.forEach(({ id }) => replaced(id));
    if (began) return apply();
    began = true;
    choose([...runs.values()].filter((run) => run.step).sort((a, b) => b.wrote - a.wrote).slice(0, AT_FIRST).map((run) => run.id), true);
  }

  const told = (names, counts) => JSON.stringify([[...names], [...counts].map(([name, own]) => [name, [...own.keys()].sort()])]);

  function replaced(id) { // one row, which keeps the focus
    const [old, one] = [lines.get(id), line(runs.get(id))];
    const focused = old.contains(document.activeElement);
    old.replaceWith(one);
    lines.set(id, one);
    if (focused) one.querySelector("input").focus();
  }

  function apart(found) { // numbers of one name but other protocols cannot be compared, and are named apart
    const names = [...found.values()];
    return new Map([...found].map(([id, name]) => [id, names.filter((other) => other === name).length > 1 ? `${name} (${id.slice(0, 4)})` : name]));
  }

  async function renew() {
    const answer = await curves.asked(`runs.json?since=${revision}`);
    lost = answer ? "" : lost || new Date().toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit" });
    if (answer) {
      take(answer);
      revision = answer.revision; // of what has been taken
      await curves.read();
    }
    tell(Number(byId("runs").dataset.shown || 0));
    for (const one of document.querySelectorAll("[data-wrote]")) one.textContent = ago(Date.now() / 1000 - Number(one.dataset.wrote));
  }

  async function ask() {
    try {
      if (!document.hidden) await renew();
    } finally { // whatever stands in a run, the page goes on
      setTimeout(ask, PERIOD);
    }
  }
  ask();
})();
