// Curves of several runs over one another, and their health as a lane each; only new rows are asked for.
"use strict";
const curves = (() => {
  const FIRST = ["loss", "knn", "rank", "health.spread", "health.gap"]; // drawn unless others are chosen
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [340, 190, 46, 14, 10, 26]; // as in charts.py
  const POINTS = 12000; // of all lines of a drawing
  const COLOURS = 8;
  const LANES = 40;
  const meant = JSON.parse(document.getElementById("meant").textContent);
  const kept = new Map(); // id -> { cursor, series: { name: [steps, values] }, looks }
  const wanted = new Set(FIRST);
  let picked = []; // { id, name, slot }

  const slotClass = (slot) => `k${slot % COLOURS} dash${Math.floor(slot / COLOURS) % 3}`;

  async function asked(address) { // null where the server does not answer
    try {
      const answer = await fetch(address);
      return answer.ok ? await answer.json() : null;
    } catch {
      return null;
    }
  }

  async function read() {
    if (!picked.length) return draw();
    const cursors = new Map(picked.map(({ id }) => [id, kept.has(id) ? kept.get(id).cursor : ""]));
    const answer = await asked(`rows.json?${[...cursors].map((pair) => pair.join("=")).join("&")}`);
    let news = false;
    for (const [id, told] of Object.entries(answer || {})) {
      const own = told.fresh ? { series: { __proto__: null }, looks: [] } : kept.get(id);
      if (!told.fresh && own.cursor !== cursors.get(id)) continue; // another answer came between
      for (const [name, [x, y]] of Object.entries(told.series)) {
        own.series[name] ??= [[], []];
        own.series[name][0].push(...x);
        own.series[name][1].push(...y);
      }
      own.looks.push(...told.looks);
      own.cursor = told.cursor;
      kept.set(id, own);
      news ||= told.fresh || Object.keys(told.series).length > 0 || told.looks.length > 0;
    }
    if (news) draw();
  }

  async function show(runs) {
    picked = runs;
    if (picked.every(({ id }) => kept.has(id))) draw();
    else await read();
  }

  // ---- what a drawing is made of ----

  function svg(kind, attributes, words) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (words !== undefined) element.textContent = words;
    return element;
  }

  function ticks(low, high, count = 4) {
    if (!(high > low)) return [low];
    const rough = (high - low) / count;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 2.5, 5, 10].find((k) => unit * k >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    const many = Math.floor(high / step + 1e-9) - first + 1; // first itself may be too large to be counted up
    return Array.from({ length: Math.max(many, 0) }, (_, i) => (first + i) * step);
  }

  function short(value) {
    if (value && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(1).replace("+", "").replace(".0e", "e");
    return String(Number(value.toPrecision(4)));
  }

  function across(first, last, left) {
    return (x) => Math.round((left + ((x - first) / Math.max(last - first, 1e-9)) * (WIDTH - left - RIGHT)) * 10) / 10;
  }

  function stepAxis(drawing, at, first, last, height) {
    for (const v of ticks(first, last)) drawing.append(svg("text", { x: at(v), y: height - 8, "text-anchor": "middle" }, short(v)));
  }

  function figure(name, words, drawing) {
    const one = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("b");
    title.textContent = name.replaceAll("_", " ").replace("health.", "health: ");
    const said = document.createElement("span");
    said.textContent = words;
    caption.append(title, said);
    one.append(drawing, caption);
    one.dataset.number = name;
    return [one, said];
  }

  function curve(name, lines) {
    let [low, high, first, end] = [Infinity, -Infinity, 0, 0];
    for (const { x, y } of lines) {
      for (const v of y) [low, high] = [Math.min(low, v), Math.max(high, v)];
      [first, end] = [Math.min(first, x[0]), Math.max(end, x[x.length - 1])];
    }
    if (high === low) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
    const at = across(first, end, LEFT);
    const down = (v) => Math.round((HEIGHT - BOTTOM - ((v - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)) * 10) / 10;
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `${name}: ${atLast(lines)}` });
    for (const v of ticks(low, high)) {
      drawing.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: down(v), y2: down(v), class: "grid" }));
      drawing.append(svg("text", { x: LEFT - 6, y: down(v) + 4, "text-anchor": "end" }, short(v)));
    }
    stepAxis(drawing, at, first, end, HEIGHT);
    for (const { run, x, y } of lines) {
      const every = Math.max(1, Math.floor((x.length * lines.length) / POINTS));
      const points = [];
      for (let i = 0; i < x.length; i += every) points.push(`${at(x[i])},${down(y[i])}`);
      const line = svg("polyline", { points: points.join(" "), class: `line ${slotClass(run.slot)}` });
      line.append(svg("title", {}, run.name));
      drawing.append(line);
      if (points.length < 30) for (const point of points) {
        const [cx, cy] = point.split(",");
        drawing.append(svg("circle", { cx, cy, r: 2, class: `dot ${slotClass(run.slot)}` }));
      }
    }
    const meaning = Object.hasOwn(meant, name) ? `: ${meant[name]}` : "";
    const [one, said] = figure(name, meaning, drawing);
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const step = first + (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (end - first);
      const values = lines.slice(0, COLOURS).map(({ run, x, y }) => `${run.name} ${short(y[nearest(x, step)])}`);
      said.textContent = `: about step ${Math.max(0, Math.round(step)).toLocaleString("en")}: ${values.join(", ")}`;
    });
    drawing.addEventListener("pointerleave", () => { said.textContent = meaning; });
    return one;
  }

  const atLast = (lines) => lines.slice(0, COLOURS).map(({ run, y }) => `${run.name} ${short(y[y.length - 1])}`).join(", ");

  function nearest(x, step) {
    let best = 0;
    for (let i = 1; i < x.length; i++) if (Math.abs(x[i] - step) < Math.abs(x[best] - step)) best = i;
    return best;
  }

  function lanes(watched) {
    const [left, lane] = [120, 22];
    const height = lane * watched.length + 30;
    const end = Math.max(...watched.map(({ looks }) => looks[looks.length - 1][0]), 1);
    const at = across(0, end, left);
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "chart", role: "img", "aria-label": "health of the runs" });
    watched.forEach(({ run, looks }, i) => {
      const y = lane * i + lane / 2 + 4;
      const name = run.name.length > 17 ? `…${run.name.slice(-16)}` : run.name;
      drawing.append(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, name));
      drawing.append(svg("line", { x1: left, x2: WIDTH - RIGHT, y1: y, y2: y, class: "grid" }));
      for (const [step, word, well] of looks) {
        const x = at(step);
        const mark = well === false
          ? svg("polygon", { points: `${x - 5},${y + 4.5} ${x + 5},${y + 4.5} ${x},${y - 5}`, class: "look bad" })
          : svg("circle", { cx: x, cy: y, r: 4, class: well ? "look good" : "look" });
        mark.append(svg("title", {}, `${run.name}, step ${step}: ${word}`));
        drawing.append(mark);
      }
    });
    stepAxis(drawing, at, 0, end, height);
    return figure("health", ": a dot for a look that found it learning, a triangle for one that found it sick", drawing)[0];
  }

  // ---- what is drawn ----

  const varies = (own, name) => own.some(({ series }) => series[name]?.[1].some((v, i, y) => v !== y[0]));

  function draw() {
    const own = picked.filter(({ id }) => kept.has(id)).map((run) => ({ run, ...kept.get(run.id) }));
    const there = new Set(own.flatMap(({ series }) => Object.keys(series)));
    const names = [...FIRST.filter((name) => there.has(name)), ...[...there].filter((name) => !FIRST.includes(name)).sort()];
    const buttons = names.filter((name) => FIRST.includes(name) || varies(own, name)).map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name.replaceAll("_", " ").replace("health.", "health: ");
      button.setAttribute("aria-pressed", String(wanted.has(name)));
      button.addEventListener("click", () => {
        if (!wanted.delete(name)) wanted.add(name);
        draw();
      });
      button.dataset.first = FIRST.includes(name);
      return button;
    });
    document.getElementById("numbers").replaceChildren(...buttons.filter((one) => one.dataset.first === "true"));
    document.getElementById("others").replaceChildren(...buttons.filter((one) => one.dataset.first !== "true"));
    const drawings = names.filter((name) => wanted.has(name)).map((name) => {
      const lines = own.filter(({ series }) => series[name]).map(({ run, series }) => ({ run, x: series[name][0], y: series[name][1] }));
      return curve(name, lines);
    });
    const watched = own.filter(({ looks }) => looks.length).slice(0, LANES);
    if (watched.length) drawings.push(lanes(watched));
    const why = document.createElement("p");
    why.className = "muted";
    why.textContent = picked.length ? "The selected runs have logged no number yet." : "Select runs in the table to see their curves.";
    document.getElementById("drawings").replaceChildren(...(drawings.length ? drawings : [why]));
    document.getElementById("key").replaceChildren(...picked.map(({ name, slot }) => {
      const one = document.createElement("span");
      const swatch = document.createElement("span");
      swatch.className = `swatch ${slotClass(slot)}`;
      one.append(swatch, name);
      return one;
    }));
  }

  return { asked, read, show, slotClass };
})();
