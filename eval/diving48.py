"""Fine-grained recognition of whole clips (section 5.2): Table 4 on Diving48, JHMDB or folders of clips.

    python -m dimofs.eval.diving48 --root DIVING48 --table 4 --json table4.json
    python -m dimofs.eval.diving48 --jhmdb CLIPS --jhmdb-labels JHMDB --table 4 --seeds 0 1 2 3 4
    python -m dimofs.eval.diving48 --clips DIR --table 4 --rows 'init (pose)' 'init (pose + DiMoFs)'
    python -m dimofs.eval.diving48 --clips DIR --table 4 --peers --kinetics r2plus1d_18.pth
    python -m dimofs.eval.diving48 --clips DIR --stage features --every 5
    python -m dimofs.eval.diving48 --clips DIR --stage clusters
    python -m dimofs.eval.diving48 --clips DIR --stage localizer

The pipeline, for pairs of frames (A, A + 5) of every clip:

    features   the main person's box and joints in A, and the DiMoFs from A to B at each joint
    clusters   joints in units of the box, with each joint's DiMoFs reduced to 15 numbers by PCA, in 100 clusters by
               K-means. PCA and clusters are of the training clips alone
    localizer  the head of the action localizer learns to tell the cluster from appearance and DiMoFs in the box, all
               below it as the detector learned it
    classify   what a clip's pairs sum up to, 100 numbers, is classified by a linear layer and by an MLP of two

"init" rows sum up the pairs' clusters themselves, "final" rows the logits that the head gives each cluster. Each
has its controls: an offset net of random weights, a Frame B of another clip, and f_A - f_B or |f_A - f_B| in place of
DiMoFs. "actions directly" is a head that learns the clips' classes instead of clusters, the ceiling of what it can
read; it has controls, too.

With --peers the table has small TSN, TRN, C3D and R(2+1)D of the same clips (see dimofs.eval.tables.peers) and the sum
of R(2+1)D's log-probabilities and ours; --rows takes the names of these rows, too.

--root takes Diving48's folder (see dimofs.datasets.diving48) or any other that dimofs.datasets knows, --clips a folder
of videos for each class. Clips that are missing, short, damaged or show nobody are counted and named; those of the test
part are classified from zeros, as clips of which nothing is known, unless they are missing. Everything is kept in
--cache: a command that was stopped continues where it was, --stage stops after a stage, and other rows read what they
share. `dimofs.zoo.extract` measures clips by many processes or machines first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.labelled_clips import PARTS, ClipSet, check_classes
from dimofs.eval.exclusions import check_distinct, check_options
from dimofs.eval.tables.peers import FUSION, KINETICS, PeerBench
from dimofs.eval.tables.recognition import FINAL, RecognitionBench
from dimofs.eval.tables.table4 import Stage, chosen_peers, chosen_rows, clusters, features, localizer, table4
from dimofs.files import write_json
from dimofs.memory import keep_freed_memory
from dimofs.pages.report import recorded
from dimofs.zoo.recognition.clip_options import ClipOptions
from dimofs.zoo.recognition.clusters import CLUSTERS
from dimofs.zoo.recognition.features import ClipMeasures
from dimofs.zoo.recognition.snippets import Snippets
from dimofs.zoo.recognition.tsn import SEGMENTS
from dimofs.zoo.training.actions import ACTIONS

CONFLICTS = (
    (("table",), ("stage",), "the table runs all stages"),
    (("stage",), ("peers", "kinetics", "segments"), "they are rows of the table"),
)


def main(
    *,
    data: ClipOptions,
    table: Annotated[Literal[4] | None, "print this table of the paper"] = None,
    stage: Annotated[Stage | None, "run the stages up to this one alone"] = None,
    rows: Annotated[list[str] | None, "rows of the table, by name (default: all)"] = None,
    peers: Annotated[bool, "also train TSN, TRN, C3D and R(2+1)D on the clips"] = False,
    segments: Annotated[int, "peers: frames of a clip that TSN and TRN look at", Range(2, 64)] = SEGMENTS,
    kinetics: Annotated[Path | None, "weights of torchvision's r2plus1d_18, .pth, for its rows"] = None,
    most: Annotated[int | None, "use at most so many clips of each class and part", Range(1)] = None,
    seeds: Annotated[list[int], "seeds of clusters, heads and classifiers", Range(0, 2**31)] = (0, 1, 2),  # type: ignore[assignment]
    count: Annotated[int, "clusters of K-means", Range(2, 10_000)] = CLUSTERS,
    hidden: Annotated[int, "width of the head's layers", Range(1, 4096)] = 256,
    steps: Annotated[int, "training steps of each head", Range(1)] = 400,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the printed tables here as a page", RESULT] = None,
) -> None:
    check_options(main, dict(locals()), conflicts=CONFLICTS)
    check_distinct("seeds", list(seeds))
    check_distinct("rows", rows or [])
    check_peers(rows, peers, kinetics=kinetics, segments=segments)
    if table is None and stage is None:
        raise InputError("nothing to do: give --table 4, or --stage with one of its stages")
    chosen = chosen_rows(rows)
    listed = limited(data.read(), most)
    check_parts(listed)
    model, cache = data.model(), data.cache
    measures = ClipMeasures(model, cache, pairing=data.pairing, strangers=listed.part("train"), seed=0)
    bench = RecognitionBench(
        clips=listed, measures=measures, recipe=ACTIONS.changed(steps=steps), hidden=hidden, clusters=count,
        seeds=list(seeds), folder=cache, names=list(dict.fromkeys(name for row in chosen for name in row.measures)),
    )  # fmt: skip
    snippets = Snippets(model, cache, segments=segments, every=data.every)
    others = PeerBench(clips=listed, snippets=snippets, seeds=list(seeds), kinetics=kinetics)
    if kinetics is not None:
        # Wrong weights are told before hours of measuring.
        _ = others.network
    keep_freed_memory()
    with recorded(html, "Fine-grained recognition") as _:
        result: dict[str, Any] = {"features": features(bench)}
        if stage in ("clusters", "localizer"):
            result["clusters"] = clusters(bench, chosen)
        if stage == "localizer":
            result["localizer"] = localizer(bench, chosen)
        if stage == "classify" or table is not None:
            result |= table4(bench, chosen, others, chosen_peers(rows, peers))
    if json is not None:
        write_json(json, result)


def check_peers(rows: list[str] | None, peers: bool, *, kinetics: Path | None, segments: int) -> None:
    """InputError: a row of other systems lacks what it needs, or an option belongs to none of the rows."""
    asked, named = rows or [], chosen_peers(rows, peers)
    if KINETICS in asked and kinetics is None:
        raise InputError(f"--rows {KINETICS!r}: needs weights; give --kinetics r2plus1d_18.pth")
    if FUSION in asked and FINAL not in asked:
        raise InputError(f"--rows {FUSION!r}: is a sum with {FINAL!r}; name that row, too")
    if kinetics is not None and not {KINETICS, FUSION} & set(named):
        raise InputError("--kinetics: weights of a peer; give --peers, or its name in --rows")
    if segments != SEGMENTS and not any(name.startswith(("TSN", "TRN")) for name in named):
        raise InputError("--segments: of TSN and TRN; give --peers, or their names in --rows")


def check_parts(data: ClipSet) -> None:
    """InputError: a part has no clips, or all are of one class."""
    for part in PARTS:
        if not data.part(part):
            raise InputError(f"{data.title}: has no clip to {part}; add some")
    check_classes(data.title, data.part("train"))


def limited(data: ClipSet, most: int | None) -> ClipSet:
    """The first `most` clips of each class and part, None for all."""
    if most is None:
        return data
    seen: dict[tuple[str, int], int] = {}
    kept = []
    for clip in data.clips:
        place = clip.part, clip.label
        seen[place] = seen.get(place, 0) + 1
        if seen[place] <= most:
            kept.append(clip)
    return replace(data, clips=kept)


if __name__ == "__main__":
    run(main)
