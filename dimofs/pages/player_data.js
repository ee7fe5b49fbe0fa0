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

const { times, starts, tracks, places, moves, actions, scores, confidences } = (() => {
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
    // Of each row dx dy of each joint, to the frame about.onward frames later; nothing where that is 0.
    moves: take(Int16Array, about.onward ? about.people * 2 * joints : 0),
    // Places in about.actions, or -1.
    actions: take(Int16Array, about.people),
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
