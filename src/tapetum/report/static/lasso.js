// A selection of images on the map: by a line drawn around dots, or with the space bar; saved as a list of files.
"use strict";
if (atlasMap) (() => {
  const { atlas, count, plot, px, py, chosen } = atlasMap;
  const MOST = 60; // pictures of the selection that are shown
  const APART = 3; // pixels between two points of the line
  const panel = document.getElementById("selection");
  const button = document.getElementById("lasso");
  let path = []; // of the line that is being drawn
  let drawing = false;
  let drew = false; // the click that ends a line chooses no image

  const always = () => button.getAttribute("aria-pressed") === "true"; // fingers draw, too, instead of scrolling
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(!always()));
    plot.classList.toggle("lassoing", always());
  });

  atlasMap.extras.push((context, ink) => {
    if (path.length < 2) return;
    context.beginPath();
    path.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.fillStyle = context.strokeStyle = ink;
    context.globalAlpha = 0.08;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  });

  plot.addEventListener("pointerdown", (event) => {
    drew = false;
    if (event.button !== 0 || (event.pointerType === "touch" && !always())) return;
    drawing = true;
    path = [atlasMap.at(event)];
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    const [x, y] = atlasMap.at(event);
    const [a, b] = path[path.length - 1];
    if (Math.abs(x - a) + Math.abs(y - b) < APART) return;
    path.push([x, y]);
    atlasMap.drawOver();
  });
  plot.addEventListener("pointerup", (event) => {
    if (!drawing) return;
    drew = path.length > 2;
    if (drew) surround(event.shiftKey);
    end();
  });
  plot.addEventListener("pointercancel", end);
  plot.addEventListener("click", (event) => { if (drew) event.stopImmediatePropagation(); }, true);
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { end(); clear(); }
    if (event.key !== " " || atlasMap.current() < 0) return;
    event.preventDefault();
    chosen[atlasMap.current()] ^= 1;
    tell();
  });

  function end() {
    drawing = false;
    path = [];
    atlasMap.drawOver();
  }

  function within(x, y) { // how often a ray from here crosses the line: odd is inside
    let inside = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [ax, ay] = path[i];
      const [bx, by] = path[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }

  function surround(more) {
    if (!more) chosen.fill(0);
    const [xs, ys] = [path.map((p) => p[0]), path.map((p) => p[1])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let i = 0; i < count; i++) {
      if (px[i] < left || px[i] > right || py[i] < top || py[i] > bottom) continue;
      if (atlasMap.shown(i) && within(px[i], py[i])) chosen[i] = 1;
    }
    tell();
  }

  function clear() {
    chosen.fill(0);
    tell();
  }

  // ---- what is selected ----

  function rows() {
    const found = [];
    for (let i = 0; i < count; i++) if (chosen[i]) found.push(i);
    return found;
  }

  function tell() {
    const found = rows();
    panel.hidden = !found.length;
    panel.dataset.count = found.length;
    atlasMap.select(found.length > 0);
    if (!found.length) return;
    const counts = new Map();
    for (const i of found) counts.set(atlas.label[i], (counts.get(atlas.label[i]) || 0) + 1);
    const classes = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6);
    const every = Math.ceil(found.length / MOST); // of a large selection some of each class
    const pictures = found.filter((_, k) => k % every === 0);
    const words = document.createElement("p");
    words.textContent = `${found.length.toLocaleString("en")} images selected`;
    if (atlas.classes.length) words.textContent += `: ${classes.map(([label, n]) => `${atlasMap.className(label)} ${n.toLocaleString("en")}`).join(", ")}${counts.size > classes.length ? " and others" : ""}`;
    if (every > 1) words.textContent += `. ${pictures.length} of them:`;
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(tool("Save as a file list", save), tool("Clear", clear));
    const cards = document.createElement("div");
    cards.className = "cards";
    cards.append(...pictures.map((i) => atlasMap.card(i, "")));
    panel.replaceChildren(words, tools, cards);
  }

  function tool(words, act) {
    const one = document.createElement("button");
    one.type = "button";
    one.textContent = words;
    one.addEventListener("click", act);
    return one;
  }

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function save() { // a list that tapetum itself reads, as images or as their labels
    const lines = rows().map((i) => `${quoted(atlas.name[i])},${atlas.label[i] < 0 ? "" : quoted(atlasMap.className(atlas.label[i]))}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`path,label\n${lines.join("\n")}\n`], { type: "text/csv" }));
    link.download = "selection.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
})();
