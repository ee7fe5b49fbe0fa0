"""Where everything moves: from one picture to another, or from each frame of a video to the next.

    python -m dimofs.zoo.motion --pair a.png b.png
    python -m dimofs.zoo.motion --pair a.png b.png --out a.flo --no-overlay
    python -m dimofs.zoo.motion --video x.mp4
    python -m dimofs.zoo.motion --video 'clips/*.mp4' --delta 5 --format npz --out results

The motion of a pixel is how far what it shows is found in the other picture, (dx, dy) in pixels. --format flo is
Middlebury's, png is KITTI's with 16 bits, npz the array "flow" [height, width, 2].

--pair writes a.motion.flo beside the first picture, or the file of --out, and a.motion.png: the first picture with its
motion drawn over it. Hues say the direction, as the wheel in the corner shows, and the colour hides the picture where
something moves by 3 % of the longer side or more.

--video writes NAME.motion/000007.flo, the motion of frame 7 to the frame --delta later, and the film NAME.motion.mp4,
beside each video or to the folder --out. The last frames, which no such frame follows, have none.

`python -m dimofs.zoo.pose --motion --save-motion flo` does so beside poses. An input that fails is reported in one
line, the others are still processed, and the exit status is 2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from tqdm import tqdm

from dimofs.cli import InputError, Range, run
from dimofs.detections import Detections
from dimofs.files import check_writable
from dimofs.flow_files import write_flow
from dimofs.flow_folder import check_folder, saving
from dimofs.formats.writers import About
from dimofs.image_inputs import frames_of
from dimofs.motion import Motion
from dimofs.overlay import film, with_motion
from dimofs.picture import Picture
from dimofs.sources import Source, printable, run_sources
from dimofs.video import Frame, open_clip, warn_of_damage
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import Network, reduced
from dimofs.zoo.devices import pick_device

NOBODY = Detections.empty(0)


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """What is written of motion; the fields are options of the command."""

    out: Path | None
    delta: int
    format: str
    overlay: bool
    quiet: bool


def main(
    *,
    video: Annotated[list[str] | None, "videos, folders of frames, globs or URLs"] = None,
    pair: Annotated[list[str] | None, "two pictures of one size"] = None,
    out: Annotated[Path | None, "folder of the results; with --pair their file"] = None,
    delta: Annotated[int, "frames from each frame of a video to the one that its motion leads to", Range(1, 1000)] = 1,
    format: Annotated[Literal["flo", "png", "npz"], "format of the motion"] = "flo",
    overlay: Annotated[bool, "also draw the motion over the frames"] = True,
    weights: Annotated[str, "a shipped model, a folder or a .pth"] = "dimofs_mobile",
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 2**14)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    quiet: Annotated[bool, "no progress bar and no summary"] = False,
) -> int:
    """Returns the exit status: 2 if an input failed."""
    if (video is None) == (pair is None):
        raise InputError("give either --video, or --pair with two pictures")
    where = pick_device(device)
    options = MotionOptions(out=out, delta=delta, format=format, overlay=overlay, quiet=quiet)

    def network() -> Network:
        return Network(checkpoints.load_as(PoseDetector, weights, where, size))

    if pair is not None:
        measure_pair(pair, network, options)
        return 0

    def prepare() -> Callable[[Source], None]:
        loaded = network()
        return lambda source: measure_video(source, loaded, options)

    return run_sources(video or [], prepare, out)


def measure_pair(names: list[str], network: Callable[[], Network], options: MotionOptions) -> None:
    """Write the motion from one picture to another. InputError: these are no two pictures of one size, or it cannot be
    written."""
    if len(names) != 2:
        raise InputError(f"--pair: has {len(names)} names; give two pictures")
    if options.delta != 1:
        raise InputError("--delta: belongs to --video; leave it out")
    a, b = map(reduced, frames_of(names))
    if a.size != b.size:
        sizes = " and ".join(f"{frame.size[1]} x {frame.size[0]}" for frame in (a, b))
        raise InputError(f"{names[1]}: the pictures have {sizes} pixels; give two of one size")
    target = options.out or Path(names[0]).with_suffix(f".motion.{options.format}")
    if target.suffix != f".{options.format}":
        raise InputError(f"--out {target}: name a file .{options.format} for --format {options.format}")
    # In KITTI's format the motion itself is a PNG.
    drawn = target.with_suffix(".drawn.png" if options.format == "png" else ".png")
    written = [target, drawn] if options.overlay else [target]
    for path in written:
        check_writable(path)
    loaded = network()
    (motion,) = loaded.motion(loaded.features([a]), loaded.features([b]))
    write_flow(target, motion.dense(*a.size))
    if options.overlay:
        Picture(with_motion(a, motion).pixels).save(drawn)
    if not options.quiet:
        print(f"{names[0]}, {names[1]}: {described(motion)} -> {', '.join(map(str, written))}")


def measure_video(source: Source, network: Network, options: MotionOptions) -> None:
    """Write the motion of a video's frames. InputError: it cannot be read, is too short, or a file cannot be
    written."""
    folder = (options.out or source.folder) / f"{source.name}.motion"
    shown = folder.with_name(f"{folder.name}.mp4")
    check_folder(folder)
    if options.overlay:
        check_writable(shown)
    count = 0
    with ExitStack() as stack:
        clip = stack.enter_context(closing(open_clip(source)))
        frames = stack.enter_context(closing(clip.frames()))
        first = next(frames)
        save = stack.enter_context(saving(folder, options.format))
        about = About(
            source=source.text,
            name=printable(source.name),
            width=first.size[1],
            height=first.size[0],
            fps=clip.fps,
            keypoint_names=(),
            model="",
            delta=options.delta,
            pixel_aspect=clip.pixel_aspect,
        )
        write = stack.enter_context(film(shown, about)) if options.overlay else None
        bar = tqdm(chain([first], frames), source.name, clip.count(), leave=False, unit="frame", disable=options.quiet)
        for frame, motion in motions(bar, network, options.delta):
            save(frame, motion)
            if write is not None:
                write(with_motion(frame, motion, options.delta), NOBODY)
            count += 1
        if not count:
            raise InputError(f"{source.text}: has no two frames of one size that are {options.delta} apart")
    warn_of_damage(clip)
    if not options.quiet:
        files = f"{folder}, {shown}" if options.overlay else str(folder)
        print(f"{source.text}: motion of {count} frames -> {files}")


def motions(frames: Iterator[Frame] | tqdm, network: Network, delta: int) -> Iterator[tuple[Frame, Motion]]:
    """Each frame that has one `delta` later, and the motion to it. Frames pass the backbone once."""
    waiting: deque = deque(maxlen=delta + 1)
    for frame in map(reduced, frames):
        if waiting and waiting[-1][0].size != frame.size:
            waiting.clear()
        waiting.append((frame, network.features([frame])))
        if len(waiting) == delta + 1:
            then, features = waiting[0]
            (motion,) = network.motion(features, waiting[-1][1])
            yield then, motion


def described(motion: Motion) -> str:
    """How far things move, in words."""
    lengths = motion.flow.norm(dim=0)
    return f"pixels move by {lengths.median():.1f} pixels (median), {lengths.max():.1f} at most"


if __name__ == "__main__":
    run(main)
