"""The cases of `dimofs.eval.speed model`: whole models find people in the frames of a synthetic clip.

`dimofs_resnet50` has the weights of torchvision's model, which are random but find people; both keep equally many. Its
note tells how far joints differ: those in float32 from torchvision's, those in bfloat16 from ours in float32 in the
same boxes (which boxes get the best of random scores depends on the last bit). The shipped `dimofs_mobile` finds the
people of each frame in the features of the frame five later; each frame passes its backbone once. The size of a case
counts the weights and the frame.
"""

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.datasets.synthetic.clips import HELD_OUT, synthetic_clip
from dimofs.detections import Detections
from dimofs.eval.timing.case import Case
from dimofs.eval.timing.torchvision_peer import keypointrcnn_resnet50_fpn, set_norm_statistics, teach_joints, twin
from dimofs.formats.writers import About
from dimofs.overlay import film
from dimofs.sources import sources
from dimofs.video import Frame
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.jobs import Job, PoseOptions, run_job
from dimofs.zoo.presets import movenet_multipose

# People that both Keypoint R-CNNs keep.
PEOPLE = 6
# Frames from Frame A to Frame B.
DELTA = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def model_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `model`, made one after the other. `quick` makes the frame smaller and the video shorter."""
    frames = clip_frames(8 if quick else 24)
    yield from resnet50_cases(frames[:1].to(device), (256, 448) if quick else (800, 1333))
    yield from mobile_cases(frames, device)


def clip_frames(count: int) -> Tensor:
    """Frames of a synthetic clip of four to six people, resized to 720p: [count, 3, 720, 1280] in [0, 1]."""
    clip = synthetic_clip(HELD_OUT, length=count, height=288, width=512, people=(4, 6))
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255
    return F.interpolate(frames, (720, 1280), mode="bilinear", align_corners=False).contiguous()


def resnet50_cases(frame: Tensor, sides: tuple[int, int]) -> Iterator[Case]:
    """Both models on a frame [1, 3, H, W] that they resize to `sides` (shorter side, largest longer side)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        peer = keypointrcnn_resnet50_fpn(*sides, box_detections_per_img=PEOPLE)
        set_norm_statistics(peer, frame[0].cpu())
        teach_joints(peer, frame[0].cpu())
        peer = peer.to(frame.device)
        ours = twin(peer, *sides).to(frame.device)
    find = {name: partial(_find, ours, None, frame, dtype, PEOPLE) for name, dtype in DTYPES.items()}
    theirs = partial(_find_torchvision, peer, frame)
    reference, found = theirs(), find["fp32"]()
    rough = _features(ours, frame, torch.bfloat16)
    again = joints_in(ours, rough, rough, found.boxes)
    notes = {"fp32": gap_note(found.keypoints, reference.keypoints), "bf16": gap_note(again, found.keypoints)}
    shape = "{}x{}, {} people".format(*ours.preprocess.size(*frame.shape[-2:]), len(reference))
    size = _bytes(ours) + 4 * frame.numel()
    for name, call in find.items():
        yield Case(
            name="dimofs_resnet50",
            shape=shape,
            dtype=name,
            ours=call,
            peer="torchvision fp32",
            theirs=theirs,
            size=size,
            note=notes[name],
        )


def mobile_cases(frames: Tensor, device: str) -> Generator[Case]:
    """The shipped model on a video of these frames [T, 3, H, W], and its network alone on two of them."""
    detector, movenet = (
        checkpoints.load_as(PoseDetector, "dimofs_mobile", device),
        movenet_multipose().eval().to(device),
    )
    ahead, frame = frames[DELTA : DELTA + 1].to(device), frames[:1].to(device)
    inputs, _ = detector.preprocess(ahead)
    # The peer takes images of the same size in [0, 1].
    images = (inputs + 1) / 2
    shape = "{}x{}".format(*inputs.shape[-2:])
    with TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "clip.mp4", frames)
        job = Job(source=sources(str(video))[0], results=video.with_suffix(".jsonl"), overlay=None)
        options = PoseOptions(delta=DELTA, quiet=True)
        backbone = torch.inference_mode()(lambda: [detector.backbone(inputs) for _ in frames])
        size = _bytes(detector) + frames[0].numel()
        yield Case(
            name="dimofs_mobile, video to JSON",
            shape=shape,
            dtype="fp32",
            ours=lambda: run_job(job, detector, options),
            peer="its backbone",
            theirs=backbone,
            size=size,
            count=len(frames),
        )
    start = {name: _features(detector, frame, dtype) for name, dtype in DTYPES.items()}
    find = {name: partial(_find, detector, start[name], ahead, dtype) for name, dtype in DTYPES.items()}
    found, theirs = find["fp32"](), torch.inference_mode()(lambda: movenet(images))
    again = joints_in(detector, start["bf16"], _features(detector, ahead, torch.bfloat16), found.boxes)
    shape, notes = f"{shape}, {len(found)} people", {"fp32": "", "bf16": gap_note(again, found.keypoints)}
    for name, call in find.items():
        yield Case(
            name="dimofs_mobile",
            shape=shape,
            dtype=name,
            ours=call,
            peer="MoveNet fp32",
            theirs=theirs,
            size=size,
            note=notes[name],
        )


def write_video(path: Path, frames: Tensor) -> Path:
    """Write frames [T, 3, H, W] in [0, 1] as a video of 25 frames per second."""
    height, width = frames.shape[-2:]
    about = About(source="", name=path.stem, width=width, height=height, fps=25.0, keypoint_names=(), model="", delta=0)
    with film(path, about) as write:
        for number, frame in enumerate((frames * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()):
            write(Frame(frame, number, number / 25, 1 / 25), Detections.empty(0))
    return path


def gap_note(joints: Tensor, reference: Tensor) -> str:
    """A note on how far joints [P, J, 2] are from reference joints."""
    if joints.shape != reference.shape:
        return f"{len(joints)} people instead of {len(reference)}"
    apart = (joints - reference).norm(dim=-1)
    return f"{apart.median():.1g} px apart in the median, {apart.max():.1g} at most"


@torch.inference_mode()
def joints_in(detector: PoseDetector, a: Features, b: Features, boxes: Tensor) -> Tensor:
    """The joints [P, J, 2] that the detector finds in boxes [P, 4] of Frame A, in the features' type."""
    regions = a.geometry.to_input(boxes).to(a.levels[0].device)
    with _autocast(a.levels[0], a.levels[0].dtype):
        points, _ = detector.find_joints([detector.align(a, b)], [regions])
    return a.geometry.to_frame(points).cpu()


def _autocast(frame: Tensor, dtype: torch.dtype):
    return torch.autocast(frame.device.type, dtype, enabled=dtype != torch.float32)


@torch.inference_mode()
def _features(detector: PoseDetector, frame: Tensor, dtype: torch.dtype) -> Features:
    with _autocast(frame, dtype):
        return detector.features(frame)


@torch.inference_mode()
def _find(
    detector: PoseDetector, start: Features | None, frame: Tensor, dtype: torch.dtype, max_people: int | None = None
) -> Detections:
    """The people of a frame or, with the features of an earlier one, those of that one found in it."""
    with _autocast(frame, dtype):
        features = detector.features(frame)
        a, b = (features, None) if start is None else (start, features)
        (people,) = detector.detect(a, b, max_people=max_people)
        return people.to("cpu", torch.float32)


@torch.inference_mode()
def _find_torchvision(model: nn.Module, frame: Tensor) -> Detections:
    (found,) = model([frame[0]])
    keypoints = found["keypoints"][..., :2]
    return Detections(found["boxes"], found["scores"], keypoints, found["keypoints_scores"]).to("cpu")


def _bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
