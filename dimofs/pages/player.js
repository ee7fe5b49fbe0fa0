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
$("deeds").hidden = !about.actions.length;
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
