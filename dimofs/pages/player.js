"use strict";
// Plays the frames of a clip and draws the people of each one over it.
//
// `about` tells of the clip. The typed arrays hold its people: row after row, those of a frame together. Coordinates are
// parts of the frame's width and height, times UNIT. Scores and confidences are 0 to 255.

const UNIT = 16384;
const $ = (id) => document.getElementById(id);
const about = JSON.parse($("about").textContent);
const joints = about.joints.length;

function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

const { times, starts, tracks, places, scores, confidences } = (() => {
  const { buffer } = bytes($("poses").textContent);
  let at = 0;
  const take = (Kind, length) => {
    const part = new Kind(buffer, at, length);
    at += part.byteLength;
    return part;
  };
  return {
    times: take(Float64Array, about.frames),
    // The first row of each frame, and the number of all rows.
    starts: take(Uint32Array, about.frames + 1),
    // Places in about.ids.
    tracks: take(Int32Array, about.people),
    // Of each row x1 y1 x2 y2 of the box, then x y of each joint.
    places: take(Int16Array, about.people * (4 + 2 * joints)),
    scores: take(Uint8Array, about.people),
    confidences: take(Uint8Array, about.people * joints),
  };
})();
const last = about.frames - 1;

/** The frame that is shown at a time in seconds. */
function frameAt(time) {
  let low = 0, high = last;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    // Players round times to microseconds.
    if (times[middle] <= time + 5e-4) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** A time within a frame, so that rounding leads to no other. */
function within(frame) {
  return (times[frame] + (frame < last ? times[frame + 1] : about.seconds)) / 2;
}

// What shows the frames: `shown(frame)` is called when one is on the screen.

class Film {
  constructor(video, shown) {
    Object.assign(this, { video, shown });
    // The frame to go to next, while the video goes to another.
    this.goal = null;
    const told = "requestVideoFrameCallback" in video;
    // What the video calls the time of the first frame: it is not 0 in all files. Ours begin at 0.
    this.origin = about.address && told ? null : 0;
    const listen = () => video.requestVideoFrameCallback((_, { mediaTime }) => {
      this.at(mediaTime);
      listen();
    });
    const follow = () => {
      if (!video.paused) this.at(video.currentTime);
      requestAnimationFrame(follow);
    };
    if (told) listen();
    else follow();
    video.onseeked = () => {
      if (this.goal !== null) this.go(this.goal);
      else if (!told) this.at(video.currentTime);
    };
  }
  get playing() { return !this.video.paused && !this.video.ended; }
  play(speed) {
    this.video.playbackRate = speed;
    this.video.play().catch(complain);
  }
  pause() { this.video.pause(); }
  speed(value) { this.video.playbackRate = value; }
  go(frame) {
    this.goal = this.video.seeking || this.origin === null ? frame : null;
    if (this.goal === null) this.video.currentTime = this.origin + within(frame);
  }
  /** The frame of this time is on the screen. */
  at(time) {
    if (this.origin === null) {
      this.origin = time;
      // The results may begin later than the video, and end earlier.
      this.go(this.goal ?? 0);
    } else {
      if (time - this.origin >= about.seconds) this.pause();
      this.shown(frameAt(time - this.origin));
    }
  }
}

/** Shows images one by one, or nothing, by its own clock. */
class Slides {
  constructor(image, sources, shown) {
    Object.assign(this, { image, sources, shown, playing: false, at: 0, rate: 1 });
    this.go(0);
  }
  play(speed) {
    Object.assign(this, { playing: true, rate: speed });
    let time = this.at === last ? 0 : times[this.at], before = performance.now();
    const turn = (now) => {
      if (!this.playing) return;
      time += ((now - before) / 1000) * this.rate;
      before = now;
      if (time >= about.seconds) this.playing = false;
      this.go(frameAt(time));
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }
  pause() { this.playing = false; }
  speed(value) { this.rate = value; }
  go(frame) {
    const source = this.sources?.(frame);
    if (source && (frame !== this.at || !this.image.src)) {
      this.image.onload = () => {
        setShape(this.image.naturalWidth / this.image.naturalHeight);
        this.shown(frame);
      };
      this.image.onerror = () => {
        complain(`This browser does not show ${source.slice(0, 200)}`);
        this.shown(frame);
      };
      this.image.src = source;
    } else this.shown(frame);
    this.at = frame;
  }
}

// Drawing

const canvas = $("drawing"), pen = canvas.getContext("2d");
const on = (id) => $(id).checked;
const least = (id) => $(id).value * 255 - 0.5;
// The place in about.ids of the person that is shown alone, or null.
let chosen = null;
let current = 0;

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
  if (on("joints")) {
    const lines = new Path2D(), dots = new Path2D();
    for (const [a, b] of about.limbs) if (found[a] && found[b]) line(lines, found[a], found[b]);
    for (const point of found) if (point) dot(dots, point, 0.7 * thick);
    stroke(lines, 1.5 * thick, "#0008");
    stroke(lines, thick, colour);
    stroke(dots, 0.4 * thick, "#0008");
    pen.fillStyle = "#fff";
    pen.fill(dots);
  }
  if (on("motion")) drawMotion(row, found, thick);
  if (on("ids")) drawId(row, x1, y1, colour);
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

/** Arrows from the joints to where the same track has them a fifth of a second later. */
function drawMotion(row, found, thick) {
  const then = frameAt(times[current] + 0.2);
  const later = then > current && rows(then).find((other) => tracks[other] === tracks[row]);
  if (!later) return;
  const arrows = new Path2D();
  points(later).slice(2).forEach((to, joint) => {
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

function drawId(row, x, y, colour) {
  const size = Math.round(Math.max(12 * devicePixelRatio, canvas.height / 45));
  const text = `${about.ids[tracks[row]]}`;
  pen.font = `${size}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + size / 2;
  const top = y >= 1.2 * size ? y - 1.2 * size : y;
  pen.fillStyle = colour;
  pen.fillRect(x, top, width, 1.2 * size);
  pen.fillStyle = "#000";
  pen.fillText(text, x + size / 4, top + 0.95 * size);
}

// The timeline: a line for each track, numbers at its left.

const timeline = $("timeline"), MARGIN = 44;
const lineHeight = Math.min(18, Math.max(3, Math.floor(6000 / Math.max(1, about.ids.length))));

/** For each track the [first, last] frames of each stretch in which it is seen. */
function stretches() {
  const found = about.ids.map(() => []), sure = least("person");
  for (let frame = 0; frame <= last; frame++) {
    for (let row = starts[frame]; row < starts[frame + 1]; row++) {
      if (scores[row] < sure) continue;
      const mine = found[tracks[row]], open = mine.at(-1);
      if (open && open[1] === frame - 1) open[1] = frame;
      else mine.push([frame, frame]);
    }
  }
  return found;
}

function paintTimeline() {
  const width = $("rows").clientWidth, height = Math.max(lineHeight, lineHeight * about.ids.length);
  timeline.width = Math.round(width * devicePixelRatio);
  timeline.height = Math.round(height * devicePixelRatio);
  timeline.style.height = `${height}px`;
  const brush = timeline.getContext("2d");
  brush.scale(devicePixelRatio, devicePixelRatio);
  brush.font = "12px system-ui, sans-serif";
  stretches().forEach((found, track) => {
    const y = track * lineHeight;
    brush.globalAlpha = chosen === null || chosen === track ? 1 : 0.3;
    brush.fillStyle = about.colours[track];
    for (const [from, to] of found) {
      const x = xOf(from);
      brush.fillRect(x, y + 0.15 * lineHeight, Math.max(1.5, xOf(to + 1) - x), 0.7 * lineHeight);
    }
    if (lineHeight >= 12) brush.fillText(`${about.ids[track]}`, 4, y + 0.5 * lineHeight + 4, MARGIN - 8);
  });
}

function xOf(frame) {
  return MARGIN + (frame / about.frames) * ($("rows").clientWidth - MARGIN);
}

// Controls

let player;

/** Frame `frame` is on the screen. */
function shown(frame) {
  current = frame;
  draw();
  $("frame").value = frame;
  $("clock").textContent = `${frame} / ${last} · ${times[frame].toFixed(3)} s`;
  $("cursor").style.transform = `translateX(${xOf(frame + 0.5)}px)`;
  $("play").textContent = player?.playing ? "❚❚" : "▶";
}

// The frame that was last asked for: it may not be on the screen yet.
let asked = null;

function go(frame) {
  player.pause();
  asked = Math.min(last, Math.max(0, frame));
  player.go(asked);
}

function step(frames) {
  go((player.playing || asked === null ? current : asked) + frames);
}

function toggle() {
  asked = null;
  if (player.playing) player.pause();
  else player.play(+$("speed").value);
  $("play").textContent = player.playing ? "❚❚" : "▶";
}

const KEYS = {
  " ": () => toggle(),
  ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
  ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
  Home: () => go(0),
  End: () => go(last),
};

addEventListener("keydown", (event) => {
  const elsewhere = event.target.matches("#options input[type=range], select, #file");
  if (elsewhere || event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key](event);
});
$("play").onclick = $("stage").onclick = toggle;
$("back").onclick = () => step(-1);
$("forward").onclick = () => step(1);
$("frame").oninput = (event) => go(+event.target.value);
$("speed").onchange = (event) => player.speed(+event.target.value);
$("options").oninput = (event) => {
  const { target } = event;
  if (target.type === "range") target.nextElementSibling.textContent = target.value;
  if (target.id === "person") paintTimeline();
  $("stage").classList.toggle("bare", !on("picture"));
  draw();
};

$("rows").onpointerdown = (event) => {
  const { left, top } = timeline.getBoundingClientRect();
  const track = Math.floor((event.clientY - top) / lineHeight);
  const number = event.clientX - left < MARGIN;
  chosen = track >= about.ids.length || (number && chosen === track) ? null : track;
  if (!number) scrub(event);
  paintTimeline();
  draw();
};
$("rows").onpointermove = (event) => {
  if (event.buttons && event.clientX - timeline.getBoundingClientRect().left >= MARGIN) scrub(event);
};

function scrub(event) {
  const { left, width } = timeline.getBoundingClientRect();
  go(Math.floor(((event.clientX - left - MARGIN) / (width - MARGIN)) * about.frames));
}

// The start

function complain(problem) {
  $("notice").hidden = false;
  $("trouble").textContent = problem.message ?? problem;
}

/** Show the film at the first of these addresses that plays; where none does, the people on black. */
function open(addresses) {
  const video = $("video"), [address, ...others] = addresses;
  if (address === undefined) {
    complain(`The film${about.film ? " " + about.film : ""} is not here, or this browser does not play it.`);
    player = new Slides($("image"), null, shown);
    return;
  }
  video.onerror = () => open(others);
  video.onloadedmetadata = () => {
    setShape(video.videoWidth / video.videoHeight);
    fit();
  };
  video.onended = video.onpause = video.onplay = () => shown(current);
  video.src = address;
  player = new Film(video, shown);
}

/** Where the film is: in this page, or beside it under the page's own name, which an interrupted run changes. */
function addresses() {
  const parts = [...document.querySelectorAll("script.film")].map((part) => bytes(part.textContent));
  if (parts.length) return [URL.createObjectURL(new Blob(parts, { type: "video/mp4" }))];
  const own = location.pathname.split("/").pop().replace(/\.html?$/, ".mp4");
  return about.film ? [own, encodeURIComponent(about.film)] : about.address ? [about.address] : [];
}

$("file").onchange = (event) => {
  $("notice").hidden = true;
  player.pause();
  open([URL.createObjectURL(event.target.files[0])]);
};
$("frame").max = last;
$("summary").textContent = about.summary;
for (const range of document.querySelectorAll("#options input[type=range]")) {
  range.nextElementSibling.textContent = range.value;
}
setShape(about.shape);
const inside = [...document.querySelectorAll("script.image")];
const pictures = inside.length ? (frame) => inside[frame].textContent : about.images && ((frame) => about.images[frame]);
$("video").hidden = Boolean(pictures);
$("image").hidden = !pictures;
if (pictures) player = new Slides($("image"), pictures, shown);
else open(addresses());
fit();
shown(0);
new ResizeObserver(fit).observe($("stage"));
