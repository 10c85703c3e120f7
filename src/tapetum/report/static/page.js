// What moves on a page: pictures out of sprite sheets, and the map with its legend. Asks for nothing outside.
"use strict";
const atlasMap = (() => {
  const element = document.getElementById("atlas-data");
  if (!element) return null;
  const atlas = JSON.parse(element.textContent);
  const count = atlas.x.length;
  const MANY = 5000; // dots beyond which they are small squares, which browsers draw fast

  // ---- pictures ----

  const sheets = atlas.sprites.map((source) => {
    const image = new Image();
    image.src = source;
    return image;
  });

  function paint(canvas, image) {
    const sheet = sheets[Math.floor(image / atlas.per)];
    const at = image % atlas.per;
    const ready = () => {
      const context = canvas.getContext("2d");
      const x = (at % atlas.columns) * atlas.side;
      const y = Math.floor(at / atlas.columns) * atlas.side;
      context.drawImage(sheet, x, y, atlas.side, atlas.side, 0, 0, canvas.width, canvas.height);
    };
    if (sheet.complete && sheet.naturalWidth) ready();
    else sheet.decode().then(ready, () => {});
  }

  for (const canvas of document.querySelectorAll("canvas.thumb")) paint(canvas, Number(canvas.dataset.image));

  // ---- the map: dots on one canvas, what changes with the pointer on another above it ----

  const plot = document.getElementById("plot");
  if (!plot) return null;
  const over = document.getElementById("over");
  const seen = document.getElementById("seen");
  const legend = document.getElementById("legend");
  const px = new Float32Array(count);
  const py = new Float32Array(count);
  const chosen = new Uint8Array(count); // whether an image is in the selection
  const front = new Uint8Array(count); // whether its dot is solid
  const pressed = new Set();
  const extras = []; // what others draw above the dots
  let selecting = false;
  let onlyWrong = false;
  let current = -1;
  let held = false; // a tap or a key chose the image: hovering changes it no more

  const className = (label) => (label >= 0 && label < atlas.classes.length ? atlas.classes[label] : "no label");
  const wrong = (i) => atlas.said !== null && atlas.said[i] >= 0 && atlas.label[i] >= 0 && atlas.said[i] !== atlas.label[i];
  const shown = (i) => (!pressed.size || pressed.has(atlas.label[i])) && (!onlyWrong || wrong(i));

  function cleared(canvas) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(plot.clientWidth * scale);
    canvas.height = Math.round(plot.clientHeight * scale);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  }

  const inset = 14;
  const radius = () => (count > MANY ? (plot.clientWidth < 420 ? 1 : 1.4) : plot.clientWidth < 420 ? 2.6 : 3.4);

  function draw() {
    if (!plot.clientWidth) return;
    const scale = window.devicePixelRatio || 1;
    const [wide, high] = [plot.clientWidth - 2 * inset, plot.clientHeight - 2 * inset];
    const context = cleared(plot);
    for (let i = 0; i < count; i++) {
      px[i] = inset + (atlas.x[i] / 1000) * wide;
      py[i] = inset + (1 - atlas.y[i] / 1000) * high;
      front[i] = shown(i) && (!selecting || chosen[i] === 1) ? 1 : 0;
    }
    if (count > MANY) {
      const on = (places) => places.map((v) => v * scale);
      marks.squares(context, atlas.label, on(px), on(py), front, Math.max(2, Math.round(2 * radius() * scale)));
    } else {
      for (const solid of [0, 1]) {
        context.globalAlpha = solid ? marks.FRONT : marks.BACK;
        for (let i = 0; i < count; i++) if (front[i] === solid) marks.mark(context, atlas.label[i], px[i], py[i], radius());
      }
    }
    drawOver();
  }

  function drawOver() {
    const context = cleared(over);
    if (current >= 0) {
      context.strokeStyle = marks.ink;
      context.lineWidth = 1;
      context.globalAlpha = 0.5;
      for (const other of atlas.near[current]) {
        context.beginPath();
        context.moveTo(px[current], py[current]);
        context.lineTo(px[other], py[other]);
        context.stroke();
      }
      context.globalAlpha = 1;
      context.lineWidth = 2.5;
      context.beginPath();
      context.arc(px[current], py[current], radius() + 4, 0, 2 * Math.PI);
      context.stroke();
    }
    for (const extra of extras) extra(context, marks.ink);
  }

  function nearest(x, y, most) {
    let best = -1;
    let least = most * most;
    for (let i = 0; i < count; i++) {
      const d = (px[i] - x) ** 2 + (py[i] - y) ** 2;
      if (d < least && shown(i)) [best, least] = [i, d];
    }
    return best;
  }

  // ---- the image that was pointed at ----

  function canvasOf(image, side, words) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words);
    paint(canvas, image);
    return canvas;
  }

  function line(words, kind) {
    const p = document.createElement("p");
    p.textContent = words;
    if (kind) p.className = kind;
    return p;
  }

  function card(image, more) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = `${atlas.name[image]}${atlas.classes.length ? `, ${className(atlas.label[image])}` : ""}${more}`;
    button.append(canvasOf(image, atlas.side, button.title));
    button.addEventListener("click", () => choose(image));
    return button;
  }

  function show(i) {
    if (i < 0) return;
    current = i;
    seen.replaceChildren();
    const big = canvasOf(i, atlas.side * 2, atlas.name[i]);
    big.className = "big";
    const words = document.createElement("div");
    words.append(line(atlas.name[i]));
    if (atlas.classes.length) words.append(line(`class: ${className(atlas.label[i])}`));
    if (atlas.said !== null && atlas.said[i] >= 0) {
      const right = !wrong(i);
      words.append(line(right ? "named rightly" : `taken for: ${className(atlas.said[i])}`, right ? "good" : "bad"));
    }
    const cards = document.createElement("div");
    cards.className = "cards";
    cards.append(...atlas.near[i].map((other, k) => card(other, `, cosine ${atlas.likeness[i][k]}`)));
    const similar = document.createElement("div");
    similar.className = "similar";
    similar.append(line("What the network takes for most similar:", "muted"), cards);
    seen.append(big, words, similar);
    seen.dataset.image = i;
    drawOver();
  }

  function choose(i) {
    held = i >= 0;
    show(i);
  }

  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  plot.addEventListener("pointermove", (event) => {
    if (held || event.pointerType === "touch" || event.buttons) return;
    const found = nearest(...at(event), 20);
    if (found >= 0 && found !== current) show(found);
  });
  plot.addEventListener("click", (event) => {
    const found = nearest(...at(event), 40);
    if (found < 0) held = false;
    else choose(found);
  });

  // Arrow keys go to the nearest image in that direction; Escape lets go.
  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") held = false;
    const way = DIRECTIONS[event.key];
    if (!way) return;
    event.preventDefault();
    if (current < 0 || !shown(current)) return choose(nearest(plot.clientWidth / 2, plot.clientHeight / 2, 1e6));
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === current || !shown(i)) continue;
      const [dx, dy] = [px[i] - px[current], py[i] - py[current]];
      const along = dx * way[0] + dy * way[1];
      const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      if (along > 0 && along >= aside && along + 2 * aside < least) [best, least] = [i, along + 2 * aside];
    }
    if (best >= 0) choose(best);
  });

  // ---- the legend, which filters ----

  function entry(words, number, isOn, toggle, label) {
    const button = document.createElement("button");
    button.type = "button";
    if (label !== undefined) {
      const swatch = document.createElement("canvas");
      swatch.width = swatch.height = 28;
      button.append(swatch);
      button.repaint = () => {
        const on = swatch.getContext("2d");
        on.clearRect(0, 0, 28, 28);
        marks.mark(on, label, 14, 14, 10);
      };
    }
    const total = document.createElement("span");
    total.className = "count";
    total.textContent = number.toLocaleString("en");
    button.append(words, total);
    button.isOn = isOn;
    button.addEventListener("click", () => {
      toggle();
      refresh();
    });
    legend.append(button);
  }

  function refresh() {
    for (const button of legend.children) {
      button.setAttribute("aria-pressed", String(button.isOn()));
      if (button.repaint) button.repaint();
    }
    let number = 0;
    for (let i = 0; i < count; i++) number += shown(i);
    legend.dataset.shown = number;
    document.getElementById("shown").textContent = `${number.toLocaleString("en")} of ${count.toLocaleString("en")} images shown`;
    draw();
  }

  function fill() {
    const counts = new Map();
    for (const label of atlas.label) counts.set(label, (counts.get(label) || 0) + 1);
    if (atlas.classes.length) {
      entry("all", count, () => !pressed.size && !onlyWrong, () => { pressed.clear(); onlyWrong = false; });
      const mistakes = atlas.x.reduce((sum, _, i) => sum + wrong(i), 0);
      if (mistakes) entry("only wrongly named", mistakes, () => onlyWrong, () => { onlyWrong = !onlyWrong; });
      for (const label of [...counts.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b)) {
        const toggle = () => { if (!pressed.delete(label)) pressed.add(label); };
        entry(className(label), counts.get(label), () => pressed.has(label), toggle, label);
      }
    }
  }

  marks.read();
  fill();
  refresh();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { marks.read(); refresh(); });
  new ResizeObserver(draw).observe(plot);
  const select = (any) => { selecting = any; draw(); };
  return { atlas, count, plot, px, py, chosen, extras, shown, className, at, card, select, drawOver, current: () => current };
})();
