"""Tracked poses of the people in a video.

    python -m dimofs.zoo.pose --video x.mp4
    python -m dimofs.zoo.pose --video a.mp4 b.mp4 'clips/*.mp4' --out results --no-overlay --resume
    python -m dimofs.zoo.pose --video photos --format coco --largest 2
    python -m dimofs.zoo.pose --video x.mp4 --format html --embed --score 0.2
    python -m dimofs.zoo.pose --video x.mp4 --smooth 1 --trails 25 --joint-score 0.3 --save-frames
    python -m dimofs.zoo.pose --video x.mp4 --aggregate 2
    python -m dimofs.zoo.pose --video x.mp4 --motion --save-motion flo
    python -m dimofs.zoo.pose --video x.mp4 --keyframe 6
    python -m dimofs.zoo.pose --video x.mp4 --delta -5 --start 1 --end 2.5 --every 2 --device cpu
    python -m dimofs.zoo.pose --video x.mp4 --format posetrack --tracker detect-and-track --out results
    torchrun --nproc-per-node 2 -m dimofs.zoo.pose --video 'clips/*.mp4' --resume

An input is a video file, an image, a folder, a quoted glob, a webcam's number, a URL, or `-` for a video on standard
input, whose results then go to standard output. The images of a folder are photographs, each on its own, with one file
of results. With --clip, or what needs neighbouring frames (--delta, --aggregate, --keyframe, --motion, --save-motion,
--format posetrack or html), they are one clip of 25 frames a second in the order of their names.

Results are written beside each input, or to --out. NAME.poses.jsonl has a header line and then a line per frame,

    {"frame": 0, "time": 0.0, "people": [{"id": 0, "score": 0.98, "box": [x1, y1, x2, y2],
     "keypoints": [[x, y, confidence], ...]}]}

in pixels of the upright frame (centres at integer + 0.5) and seconds since the first frame. NAME.poses.mp4 (.png for a
still, a folder NAME.poses of .jpg for photographs) shows the poses drawn into the frames, at most 4096 pixels wide or
high: left limbs blue, right ones orange, all else in the colour of the track. --save-frames writes such a folder for
videos, too, and --show opens a window that shows them. The header of a video whose pixels are
not square (DVD) has `pixel_aspect`: how much wider than high they are shown. --format writes instead csv
(NAME.poses.csv, a row per person), coco (NAME.poses.json, a COCO results list; image_id is the number in the image's
name, and v is 0 where a joint is probably hidden or outside), posetrack (NAME.json, a PoseTrack18 file) or html:
NAME.poses.html is a page for a browser, which plays the frames and draws the people over them, and needs no network.
NAME.poses.mp4 then is the plain film that the page plays. With --embed the page holds the film, so
that it can be sent or opened on a phone; with --no-overlay the page plays the input itself.

--largest and --region choose people, --score and --joint-score are thresholds; joints below theirs are written but not
drawn. --smooth F is a One-Euro filter: joints follow slow motion up to F Hz and fast motion faster (1 is a good start).

With --delta D the poses of each frame are found in the features of the frame D later (earlier if negative; frames are
counted after --every), or of the last (first) frame where the clip ends before that. With --aggregate D the joints are
placed with the help of the frames D before and D after, which is slower and more accurate.

--motion draws the predicted motion over the frames, below the poses: hues say the direction, as the wheel in the corner
shows, and the colour hides the frame where something moves by 3 % of the longer side a frame or more. It is the motion
to the next frame that is read or, with --delta D, to the frame D later. --save-motion writes it for every pixel, in
pixels of the frame: NAME.motion/000007.flo is how far each pixel of frame 7 moves (Middlebury's format; png is KITTI's
with 16 bits, npz the array "flow" [height, width, 2]). Frames that no such frame follows have none. In a page of
--format html the box Motion then shows it as arrows from the joints, as far as they move in a fifth of a second.

With --keyframe K people are found in every K-th frame only and carried to the frames between by how their joints move,
which is several times as fast. Where somebody enters or leaves, or the motion is unclear, more frames are looked at. A
result then comes up to K frames late.

--dtype auto computes in bfloat16 where the CPU does so natively and is the faster for it, else in float32. Joints then
differ a little from those of float32.

An input that fails is reported in one line, the other inputs are still processed, and the exit status is 2. A file
under its own name is always whole. Ctrl-C, SIGTERM and SIGHUP end the run: what the current input has so far is kept
with ".partial" in the name (NAME.partial.poses.jsonl), and a webcam's results are whole. The same command with --resume
then skips the inputs whose results are whole.

torchrun shares the inputs among processes of one machine. `dimofs pose --video 'clips/*.mp4' --ray auto` shares them
among the machines of a Ray cluster (see dimofs.cluster), which must see the inputs and the results under the same
names; --threads (then 1) is the number of CPUs for each input. Inputs whose results are complete are skipped, as with
--resume.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import torch

from dimofs.cli import InputError, Range, check_choices, check_ranges, run
from dimofs.drawing import MIN_CONFIDENCE, Style
from dimofs.memory import keep_freed_memory
from dimofs.selection import EVERYBODY, Selection
from dimofs.sources import report
from dimofs.tracking import TRACKERS, tracker_named
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.jobs import Job, PoseOptions, is_done, plan_jobs, run_job
from dimofs.zoo.detection.remote import PoseWork, run_on_cluster
from dimofs.zoo.devices import DTYPE_NAMES, await_ranks, dtype_named, pick_device, rank_and_world

SIDES = Range(low=32, high=2**14)
# The features of so many frames are kept.
DELTAS, AGGREGATES = Range(low=-10_000, high=10_000), Range(low=0, high=1000)
BATCHES = Range(low=1, high=1024)
# So many frames wait for the next key frame.
KEYFRAMES = Range(low=1, high=1000)
CUTOFFS = Range(low=0.01, high=100)
# Minimum score of a person who is reported, and of one who is drawn.
SCORE = 0.5
# COCO's metric ranks all people, doubtful ones too.
COCO_SCORE = 0.0


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the overlay shows."""

    boxes: Annotated[bool, "draw boxes"] = True
    ids: Annotated[bool, "draw the ids of tracks"] = True
    joint_score: Annotated[float, "minimum confidence of a joint that is drawn", Range(0, 1)] = MIN_CONFIDENCE
    thickness: Annotated[float, "of lines and joints, in units of the usual one", Range(0.1, 10)] = 1.0
    trails: Annotated[int, "frames that the path of a person stays drawn", Range(0, 10_000)] = 0
    motion: Annotated[bool, "draw the predicted motion, too"] = False

    def style(self, score: float) -> Style:
        """The style that draws people from this score up."""
        return Style(
            boxes=self.boxes,
            ids=self.ids,
            score=score,
            joint_score=self.joint_score,
            thickness=self.thickness,
            trails=self.trails,
        )


USUAL_DRAWING = Drawing()


def main(
    *,
    video: Annotated[list[str], "videos, images, folders, globs, webcam numbers or URLs"],
    out: Annotated[Path | None, "folder of the results (default: beside each input)"] = None,
    format: Annotated[Literal["jsonl", "csv", "coco", "posetrack", "html"], "format of the results"] = "jsonl",
    overlay: Annotated[bool, "also write the frames with the poses drawn in"] = True,
    embed: Annotated[bool, "let the page of --format html hold its film"] = False,
    save_frames: Annotated[bool, "also write each frame with its poses as a picture"] = False,
    show: Annotated[bool, "show the frames with the poses in a window"] = False,
    save_motion: Annotated[Literal["flo", "png", "npz"] | None, "also write the motion of each frame"] = None,
    clip: Annotated[bool | None, "the images of a folder are the frames of a clip, not photographs"] = None,
    drawing: Drawing = USUAL_DRAWING,
    resume: Annotated[bool, "skip inputs whose results are complete; use the same options"] = False,
    weights: Annotated[str, "a shipped model, keypointrcnn_resnet50_fpn_coco, a folder or a .pth"] = "dimofs_mobile",
    size: Annotated[int | None, "longer side of the model's input, pixels (default: the model's own)", SIDES] = None,
    delta: Annotated[int, "find the poses of frame t in the features of frame t + DELTA", DELTAS] = 0,
    aggregate: Annotated[int, "place joints with frames t - AGGREGATE and t + AGGREGATE too", AGGREGATES] = 0,
    keyframe: Annotated[int, "find people in each KEYFRAME-th frame, carry them between (1: off)", KEYFRAMES] = 1,
    score: Annotated[float | None, "minimum score of a person (default: 0.5; for coco 0, drawn from 0.5)"] = None,
    select: Selection = EVERYBODY,
    tracker: Annotated[str, f"how people are linked: {', '.join(TRACKERS)} (see dimofs.tracking)"] = "default",
    gate: Annotated[float | None, "maximum cost of a link (default: the tracker's)"] = None,
    patience: Annotated[int | None, "frames of the source that a track may miss (default: the tracker's)"] = None,
    birth: Annotated[float | None, "minimum score to start a track, not to extend one (default: the tracker's)"] = None,
    sure: Annotated[
        float | None, "people below this score are linked last (default: the tracker's; 0 for coco)"
    ] = None,
    smooth: Annotated[float | None, "steady joints by a One-Euro filter of this lowest cutoff, Hz", CUTOFFS] = None,
    start: Annotated[float, "start at this time, seconds", Range(low=0)] = 0.0,
    end: Annotated[float | None, "end before this time, seconds"] = None,
    every: Annotated[int, "take each n-th frame", Range(low=1)] = 1,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    dtype: Annotated[str, f"type of the network's arithmetic: {', '.join(DTYPE_NAMES)}"] = "float32",
    batch: Annotated[int | None, "frames at a time (default: 1 on a CPU, 8 on a GPU)", BATCHES] = None,
    threads: Annotated[int | None, "threads of the CPU (default: as many as it has cores)", Range(1, 1024)] = None,
    ray: Annotated[str | None, "address of a Ray cluster that does the inputs: auto, HOST:PORT, local"] = None,
    profile: Annotated[bool, "also tell the time of each stage"] = False,
    quiet: Annotated[bool, "no progress bar and no summary"] = False,
) -> int:
    """Run the model over the inputs of this rank. Returns the exit status: 2 if one failed."""
    rank, world = rank_and_world()
    # The machines of a cluster have devices of their own.
    where = pick_device(device if ray is None else "cpu")
    check_choices(dtype=(dtype, DTYPE_NAMES))
    if embed and format != "html":
        raise InputError("--embed puts a film into a page; give --format html too")
    if drawing.motion and not (overlay or save_frames or show or format == "html"):
        raise InputError("--motion draws into frames; leave out --no-overlay")
    if ray is not None and (show or world > 1):
        raise InputError("--ray: does the inputs elsewhere; leave out --show and torchrun")
    check_ranges(end=(end, start, inf))
    select.check()
    if threads is not None:
        torch.set_num_threads(threads)
    joins = tracker_named(tracker, gate=gate, patience=patience, birth=birth, sure=sure)
    least = score if score is not None else COCO_SCORE if format == "coco" else SCORE
    moving = drawing.motion or save_motion is not None
    if keyframe > 1 and (delta or aggregate or joins.motion or moving):
        raise InputError("--keyframe: leave out --delta, --aggregate and what shows or uses motion in every frame")
    needing = {
        "--delta and --aggregate": delta or aggregate,
        "--motion and --save-motion": moving,
        "--keyframe": keyframe > 1,
    }
    apart = not (any(needing.values()) or format in ("posetrack", "html")) if clip is None else not clip
    for names, given in needing.items():
        if apart and given:
            verb = "needs" if names == "--keyframe" else "need"
            raise InputError(f"--no-clip: {names} {verb} the frames of one clip; leave one of them out")
    options = PoseOptions(
        model=weights,
        delta=delta,
        aggregate=aggregate,
        keyframe=keyframe,
        batch=batch if batch is not None else 8 if where.type == "cuda" else 1,
        dtype=dtype_named(dtype, where),
        # COCO's results hold all people with their scores, doubtful ones too.
        tracker=replace(
            joins, score=max(joins.score, least), sure=0.0 if sure is None and format == "coco" else joins.sure
        ),
        start=start,
        end=end,
        every=every,
        select=select,
        apart=apart,
        smooth=smooth,
        style=drawing.style(max(least, SCORE) if score is None else least),
        motion=drawing.motion,
        save_motion=save_motion,
        format=format,
        embed=embed,
        show=show,
        profile=profile,
        quiet=quiet,
    )
    planned = plan_jobs(
        video, out, format, overlay and not embed, apart=apart, each=save_frames, motion=save_motion is not None
    )
    mine = list(planned)[rank::world]
    faults = [fault for fault in mine if isinstance(fault, InputError)]
    for fault in faults:
        report(fault)
    jobs = [job for job in mine if isinstance(job, Job)]
    resume |= ray is not None
    todo = [job for job in jobs if not (resume and is_done(job, options))]
    if resume and not quiet:
        print(f"{len(jobs) - len(todo)} of {len(jobs)} inputs are complete and skipped")
    failed = bool(faults)
    if todo and ray is not None:
        work = PoseWork(weights=weights, size=size, device=device, threads=threads or 1, options=options)
        failed |= not run_on_cluster(todo, work, ray, batch)
    elif todo:
        keep_freed_memory()
        detector = checkpoints.load_as(PoseDetector, weights, where, size)
        for job in todo:
            failed |= not _succeeds(job, detector, options)
    await_ranks(failed, world)
    return 2 if failed else 0


def _succeeds(job: Job, detector: PoseDetector, options: PoseOptions) -> bool:
    """Run a job. What goes wrong in it, foreseen or not, is reported and does not end the other jobs."""
    try:
        run_job(job, detector, options)
    except InputError as fault:
        report(fault)
    except Exception as error:
        if os.environ.get("DIMOFS_DEBUG") == "1":
            raise
        report(f"{job.source.text}: unexpected {type(error).__name__}: {error} (DIMOFS_DEBUG=1 shows where)")
    else:
        return True
    return False


if __name__ == "__main__":
    run(main)
