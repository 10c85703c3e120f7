// Dots of a map: a colour and a shape for each class; of very many images small squares, set pixel by pixel.
"use strict";
const marks = (() => {
  const COLOURS = 8;
  const SHAPES = 5;
  const [FRONT, BACK] = [0.85, 0.1]; // how solid dots are, and those that are not meant
  let colours = [];
  const own = { ink: "", faint: "", FRONT, BACK };

  function read() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    colours = Array.from({ length: COLOURS }, (_, k) => value(`--c${k}`));
    [own.ink, own.faint] = [value("--ink"), value("--muted")];
  }

  const colour = (label) => (label < 0 ? own.faint : colours[label % COLOURS]);

  function mark(on, label, x, y, r) {
    const shape = label < 0 ? 0 : Math.floor(label / COLOURS) % SHAPES;
    on.fillStyle = colour(label);
    on.beginPath();
    if (shape === 0) on.arc(x, y, r, 0, 2 * Math.PI);
    else if (shape === 1) on.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
    else if (shape === 2) polygon(on, x, y, [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], r);
    else if (shape === 3) polygon(on, x, y, [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]], r);
    else polygon(on, x, y, [[-1.1, -0.8], [1.1, -0.8], [0, 1.2]], r);
    on.fill();
  }

  function polygon(on, x, y, points, r) {
    points.forEach(([a, b], k) => (k ? on.lineTo(x + a * r, y + b * r) : on.moveTo(x + a * r, y + b * r)));
    on.closePath();
  }

  // Squares of `side` pixels at (x, y), in the pixels' own order of bytes; `front` says which are solid, on top.
  function squares(on, labels, x, y, front, side) {
    const { width, height } = on.canvas;
    const image = on.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const bytes = new Uint8Array(4);
    const packed = new Uint32Array(bytes.buffer);
    for (const solid of [0, 1]) {
      const known = new Map();
      for (let i = 0; i < labels.length; i++) {
        if (front[i] !== solid) continue;
        let value = known.get(labels[i]);
        if (value === undefined) {
          const hex = parseInt(colour(labels[i]).slice(1), 16);
          bytes.set([hex >> 16, (hex >> 8) & 255, hex & 255, 255 * (solid ? FRONT : BACK)]);
          known.set(labels[i], (value = packed[0]));
        }
        const at = Math.round(y[i] - side / 2) * width + Math.round(x[i] - side / 2);
        for (let row = 0; row < side; row++) pixels.fill(value, at + row * width, at + row * width + side);
      }
    }
    on.putImageData(image, 0, 0);
  }

  return Object.assign(own, { read, mark, squares });
})();
