// Drawing

const canvas = $("drawing"), pen = canvas.getContext("2d");
const on = (id) => $(id).checked;
const least = (id) => $(id).value * 255 - 0.5;
// The place in about.ids of the person that is shown alone, or null.
let chosen = null;
let current = 0;

/** The colour of a limb whose ends are both of one side; the others have the colour of their track. */
const sideColours = about.limbs.map(([a, b]) => {
  const side = Object.keys(about.sides).find((name) => [a, b].every((end) => about.joints[end].startsWith(name)));
  return about.sides[side];
});

function fit() {
  const box = $("stage").getBoundingClientRect();
  canvas.width = Math.round(box.width * devicePixelRatio);
  canvas.height = Math.round(box.height * devicePixelRatio);
  paintTimeline();
  draw();
}

function setShape(value) {
  $("stage").style.setProperty("--shape", value);
}

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const seen = rows(current).filter((row) => scores[row] >= least("person"));
  for (const row of seen) {
    pen.globalAlpha = chosen === null || tracks[row] === chosen ? 1 : 0.25;
    drawPerson(row);
  }
  pen.globalAlpha = 1;
}

function rows(frame) {
  return Array.from({ length: starts[frame + 1] - starts[frame] }, (_, i) => starts[frame] + i);
}

/** The corners of a row's box and its joints on the canvas, [x, y] each; null for a joint that is not sure. */
function points(row) {
  const from = row * (4 + 2 * joints), sure = least("joint"), out = [];
  for (let i = 0; i < 2 + joints; i++) {
    const known = i < 2 || confidences[row * joints + i - 2] >= sure;
    const x = places[from + 2 * i], y = places[from + 2 * i + 1];
    out.push(known ? [(x / UNIT) * canvas.width, (y / UNIT) * canvas.height] : null);
  }
  return out;
}

function drawPerson(row) {
  const [[x1, y1], [x2, y2], ...found] = points(row);
  const colour = about.colours[tracks[row]];
  const longest = Math.max(canvas.width, canvas.height);
  const thick = Math.min(Math.max(0.028 * Math.sqrt(Math.abs((x2 - x1) * (y2 - y1))), 1.6), longest / 100);
  pen.lineCap = pen.lineJoin = "round";
  if (on("boxes")) {
    pen.strokeStyle = colour;
    pen.lineWidth = Math.max(1, longest / 700);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (on("joints")) drawSkeleton(found, thick, colour);
  if (on("motion")) drawMotion(row, found, thick);
  const texts = [on("ids") && about.ids[tracks[row]], on("actions") && about.actions[actions[row]]];
  const text = texts.filter((part) => part || part === 0).join(" ");
  if (text) drawPlate(text, x1, y1, colour);
}

function drawSkeleton(found, thick, colour) {
  const all = new Path2D(), dots = new Path2D(), coloured = new Map();
  about.limbs.forEach(([a, b], limb) => {
    if (!found[a] || !found[b]) return;
    const tint = sideColours[limb] ?? colour;
    if (!coloured.has(tint)) coloured.set(tint, new Path2D());
    line(all, found[a], found[b]);
    line(coloured.get(tint), found[a], found[b]);
  });
  for (const point of found) if (point) dot(dots, point, 0.7 * thick);
  stroke(all, 1.5 * thick, "#0008");
  for (const [tint, lines] of coloured) stroke(lines, thick, tint);
  stroke(dots, 0.4 * thick, "#0008");
  pen.fillStyle = "#fff";
  pen.fill(dots);
}

function line(path, [x1, y1], [x2, y2]) {
  path.moveTo(x1, y1);
  path.lineTo(x2, y2);
}

function dot(path, [x, y], radius) {
  path.moveTo(x + radius, y);
  path.arc(x, y, radius, 0, 2 * Math.PI);
}

function stroke(path, width, colour) {
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.stroke(path);
}

// The arrows of motion are as long as what moves in this time, in seconds.
const AHEAD = 0.2;

/** Where the joints of a row are a little later: by the predicted motion, or where the same track has them. */
function soon(row, found) {
  if (!about.onward) {
    const then = frameAt(times[current] + AHEAD);
    const later = then > current && rows(then).find((other) => tracks[other] === tracks[row]);
    return later ? points(later).slice(2) : [];
  }
  const seconds = times[Math.min(last, Math.max(0, current + about.onward))] - times[current];
  if (!seconds) return [];
  return found.map((from, joint) => {
    const at = 2 * (row * joints + joint), part = AHEAD / seconds / UNIT;
    return from && [from[0] + moves[at] * part * canvas.width, from[1] + moves[at + 1] * part * canvas.height];
  });
}

/** Arrows from the joints to where they are soon. */
function drawMotion(row, found, thick) {
  const arrows = new Path2D();
  soon(row, found).forEach((to, joint) => {
    const from = found[joint];
    if (!from || !to) return;
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = Math.hypot(dx, dy);
    if (length < 2 * devicePixelRatio) return;
    const head = Math.min(length / 2, 3 * thick), [ux, uy] = [(dx / length) * head, (dy / length) * head];
    line(arrows, from, to);
    line(arrows, [to[0] - ux - uy / 2, to[1] - uy + ux / 2], to);
    line(arrows, [to[0] - ux + uy / 2, to[1] - uy - ux / 2], to);
  });
  stroke(arrows, thick, "#0008");
  stroke(arrows, 0.5 * thick, "#ffe14d");
}

function drawPlate(text, x, y, colour) {
  const size = Math.round(Math.max(12 * devicePixelRatio, canvas.height / 45));
  pen.font = `${size}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + size / 2;
  const top = y >= 1.2 * size ? y - 1.2 * size : y;
  pen.fillStyle = colour;
  pen.fillRect(x, top, width, 1.2 * size);
  pen.fillStyle = "#000";
  pen.fillText(text, x + size / 4, top + 0.95 * size);
}
