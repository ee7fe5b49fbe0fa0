"""Are the DiMoFs motion? Section 4 of the paper, measured: motion at joints, point tracks, moving people, pictures.

    python -m eval.motion --jhmdb CLIPS --jhmdb-labels JHMDB --size 320           # endpoint errors on the test clips
    python -m eval.motion                                                         # on synthetic clips, exactly labelled
    python -m eval.motion --track --jhmdb CLIPS --jhmdb-labels JHMDB --size 320
    python -m eval.motion --localize --jhmdb CLIPS --jhmdb-labels JHMDB --masks MASKS --size 320
    python -m eval.motion --channels-by-joint --jhmdb CLIPS --jhmdb-labels JHMDB --size 320
    python -m eval.motion --figure 3 --video x.mp4 --out sheet.png --out-video sheet.mp4
    python -m eval.motion --figure 3 --video x.mp4 --level 3 --channels 5 17 --weights dimofs_mobile_v2
    python -m eval.motion --track --html motion.html                              # the table and its plot as a page
    python -m eval.motion --fit --jhmdb CLIPS --jhmdb-labels JHMDB --masks MASKS --size 320 --weights MODEL

--fit fits 1x1 convolutions to (dx, dy) from the DiMoFs of all four levels, from two fields of matching the pyramid's
features, and from both; `detector.motion` uses the one that --carrier names. They are fitted at joints, on JHMDB's
training clips of split 1 and on synthetic clips, where joints have exact motion, by ridge in closed form, reweighted so
that it minimizes mean distances. One read-out serves every delta, and none is fitted to backgrounds. With --masks
(the folder mask/ of github.com/rendicahya/jhmdb-scripts) it also fits the score of what moves, linear in log lengths.
It writes motion.safetensors beside the weights, and motion_controls.safetensors with all read-outs that the tables
compare, those of a random offset net among them.

Endpoint error: the distance between where an estimate puts a joint of Frame A in Frame A + delta and where it is
labelled, in pixels of the frame, over the joints labelled in both. JHMDB's labels are noisy at delta 1 and 2: half of
the joints do not move there, then jump. --track follows the joints of a clip's first frame by chained motion from frame
to frame. --localize takes pairs in which the person moves by more than 2 pixels; a camera moves if the median of DIS
outside the mask is above 1 pixel. Intervals are 95 % bootstraps over clips.

--channels-by-joint asks whether the DiMoFs decompose the body, as the paper suggests (section 4): whether the channels
that go best with a joint's motion are its own. They are if two joints share fewer of them than one joint shares with
itself in another half of the clips; otherwise the difference is that of resampling, and no decomposition is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.synthetic.clips import HELD_OUT
from dimofs.eval.exclusions import Conflict, check_options
from dimofs.eval.flow import errors, fitting, maps, preferences, tracks
from dimofs.eval.flow.estimators import ROWS
from dimofs.eval.flow.figure import Sheet, check_film, check_sheet, contact_sheet, write_film, write_sheet
from dimofs.eval.flow.methods import NAMES
from dimofs.eval.flow.plots import plot_means
from dimofs.eval.flow.probes import Clip, jhmdb_clips, synthetic_clips
from dimofs.eval.flow.tracks import AFTER
from dimofs.files import write_json
from dimofs.flow import load_opencv
from dimofs.pages.report import Report, recorded
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.motion_readout import READOUT
from dimofs.zoo.devices import pick_device
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need

DELTAS = (1, 2, 4, 8, 10)
# Synthetic clips that are measured where no data is given, and those fitted to beside JHMDB's; frames beyond the
# farthest Frame B that a synthetic clip has.
CLIPS, FITTED, BEYOND = 12, 8, 14
# Frames A of each clip.
STARTS = 3

MODES = ("fit", "track", "localize", "channels_by_joint", "figure")
CONFLICTS: list[Conflict] = [((one,), MODES[i + 1 :], "each makes its own table") for i, one in enumerate(MODES)]
CONFLICTS.append((("figure",), ("jhmdb", "jhmdb_labels", "clips", "starts"), "it shows one video"))
CONFLICTS.append((("json",), ("fit", "figure"), "it holds a table, and there is none"))
NEEDS = [
    (("localize",), ("masks",), "it judges maps by them"),
    (("masks",), ("localize", "fit"), "masks judge maps, or are fitted to"),
    (("figure",), ("video",), "it shows one"),
    (("carrier",), ("fit",), "it is fitted to"),
    (("video", "out_video", "level", "channels", "rows"), ("figure",), "it belongs to the picture"),
]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which labelled clips are measured, and which frames of them: the options of these names."""

    jhmdb: str | None
    jhmdb_labels: str | None
    masks: Path | None
    clips: int | None
    starts: int
    deltas: Sequence[int]

    @property
    def name(self) -> str:
        """What the clips are called in tables."""
        return "JHMDB, split 1" if self.jhmdb else "synthetic clips"

    def test(self, longest: int) -> Iterator[Clip]:
        """The clips to measure on; synthetic ones have `longest` frames and some more. InputError: data is missing."""
        if self.jhmdb or self.jhmdb_labels:
            return self._jhmdb("test")
        return synthetic_clips(range(HELD_OUT, HELD_OUT + (self.clips or CLIPS)), longest + BEYOND)

    def training(self) -> Iterator[Clip]:
        """The clips to fit to: synthetic ones and, where given, JHMDB's. InputError: data is missing."""
        given = self.jhmdb or self.jhmdb_labels
        synthetic = synthetic_clips(range(FITTED if given else self.clips or CLIPS), max(self.deltas) + BEYOND)
        return chain(synthetic, self._jhmdb("train") if given else ())

    def _jhmdb(self, part: Literal["train", "test"]) -> Iterator[Clip]:
        clips = need(self.jhmdb, "--jhmdb", "--jhmdb-labels")
        return jhmdb_clips(Jhmdb(clips, need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb"), part=part), self.clips)


def main(
    *,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    masks: Annotated[Path | None, "JHMDB: folder of puppet masks, <class>/<clip>.mat"] = None,
    weights: Annotated[str, "model to measure: a name or a checkpoint folder"] = "dimofs_mobile",
    fit: Annotated[bool, "fit the read-outs of the weights and write them beside"] = False,
    carrier: Annotated[Literal["dimofs", "matching", "both"], "what --fit lets detector.motion read"] = "both",
    track: Annotated[bool, "follow points through clips"] = False,
    localize: Annotated[bool, "find moving people: AUROC of their masks"] = False,
    channels_by_joint: Annotated[bool, "do different joints prefer different channels?"] = False,
    figure: Annotated[Literal[3] | None, "draw the paper's figure of DiMoFs"] = None,
    video: Annotated[str | None, "the video that --figure 3 shows"] = None,
    level: Annotated[int, "the pyramid level whose channels are shown", Range(2, 5)] = 2,
    channels: Annotated[
        list[int] | None, "channels shown as motion fields (default: the first two, or the only one)", Range(0, 10_000)
    ] = None,
    rows: Annotated[int, "rows of the contact sheet, spread over the video", Range(1, 100)] = 4,
    out: Annotated[Path, "the contact sheet of --figure 3", RESULT] = Path("figure3.png"),
    out_video: Annotated[Path | None, "also draw every pair of frames, as an mp4", RESULT] = None,
    deltas: Annotated[Sequence[int], "frames from A to B; --figure 3 takes the first", Range(1, 1000)] = DELTAS,
    clips: Annotated[int | None, "at most this many clips (default: all of JHMDB, 12 synthetic)", Range(1)] = None,
    starts: Annotated[int, "frames A of each clip", Range(1, 1000)] = STARTS,
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 4096)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the tables, plots and pictures here as a page", RESULT] = None,
) -> None:
    check_options(main, locals(), conflicts=CONFLICTS, needs=NEEDS)
    if out_video is not None:
        check_film(out_video)
    load_opencv()
    detector = checkpoints.load_as(PoseDetector, weights, pick_device(device), size)
    data = Data(jhmdb=jhmdb, jhmdb_labels=jhmdb_labels, masks=masks, clips=clips, starts=starts, deltas=deltas)
    content = None
    with recorded(html, "Motion") as page:
        if figure and video is not None:
            page.picture(out, "Figure 3", ".png")
            _draw(detector, video, Sheet(level=level, channels=channels, delta=deltas[0]), rows, out, out_video)
        elif fit:
            _fit(detector, _folder(weights), data, carrier)
        else:
            what = {"track": track, "localized": localize, "by_joint": channels_by_joint}
            content = _measure(detector, weights, data, page, **what)
    if json is not None and content is not None:
        write_json(json, {"source": data.name, "weights": weights, "size": size, **content})


def _measure(
    detector: PoseDetector, weights: str, data: Data, page: Report, *, track: bool, localized: bool, by_joint: bool
) -> dict[str, Any]:
    """Print the table asked for and, for a page, plot it; returns the content of --json."""
    longest = max(AFTER) if track else max(data.deltas)
    clips, head = data.test(longest), f"{data.name}, {weights}"
    if by_joint:
        print(f"{head}: channels of the DiMoFs by joint")
        return _shown(preferences, {"preferences": preferences.measure(detector, clips, data.deltas, data.starts)})
    motion, masks = fitting.read_all(_folder(weights), detector)
    if track:
        print(f"{head}: joints followed by motion from frame to frame")
        drift = tracks.measure(detector, motion, clips)
        _plot(page, {f"after {number} frames": group for number, group in drift.items()}, NAMES, "drift", "drift, px")
        return _shown(tracks, {"drift": drift})
    if localized:
        assert data.masks is not None
        found = maps.measure(detector, motion, masks, clips, data.masks, data.deltas, data.starts)
        print(f"{head}: where a person moves by more than 2 pixels")
        _plot(page, found, maps.ROWS, "auroc", "AUROC of the mask")
        return _shown(maps, {"auroc": found})
    found = errors.summary(errors.measure(detector, motion, clips, data.deltas, data.starts), data.deltas)
    print(f"{head}: motion of joints from A to A + delta")
    _plot(page, found, ROWS, "error", "endpoint error, px")
    return _shown(errors, {"errors": found})


def _plot(page: Report, groups: Mapping[str, Any], names: Mapping[str, str], field: str, label: str) -> None:
    """Plot a table where a page wants it."""
    path = page.picture(None, label)
    if path is not None:
        plot_means(path, groups, names, field, label)


def _shown(module: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Print a table; returns its content."""
    print(*module.lines(*content.values()), sep="\n")
    return content


def _fit(detector: PoseDetector, folder: Path, data: Data, carrier: str) -> None:
    """Fit every read-out on training clips and write them to `folder`."""
    motion, shapes = fitting.fit(detector, data.training(), data.deltas, data.starts, data.masks)
    source = "JHMDB split 1 train and synthetic clips" if data.jhmdb else "synthetic clips"
    fitting.write_all(folder, detector, motion, shapes, source, carrier)
    print(f"fitted on {source} -> {folder / READOUT}, {folder / fitting.CONTROLS}")


def _draw(detector: PoseDetector, video: str, sheet: Sheet, rows: int, out: Path, film: Path | None) -> None:
    """Draw Figure 3 as a contact sheet and, where asked for, a film."""
    check_sheet(out)
    picture = contact_sheet(detector, video, sheet, rows)
    write_sheet(out, picture)
    print(f"{video}: pairs {sheet.delta} frames apart, channels of P{sheet.level} -> {out}")
    if film is not None:
        print(f"{write_film(film, detector, video, sheet)} pairs -> {film}")


def _folder(weights: str) -> Path:
    """The folder that holds the weights. InputError: they lie in none."""
    path = checkpoints.SHIPPED / weights if weights in checkpoints.shipped() else Path(weights)
    if not path.is_dir():
        raise InputError(f"--weights {weights}: read-outs lie beside weights; give the folder of a checkpoint")
    return path


if __name__ == "__main__":
    run(main)
