"""How long the scripts of a page take for each frame, with 10,000 frames and 20 people: not a test, a measurement.

    python -m tests.page_speed

A frame of a film at 60 frames a second lasts 16.7 ms; with half of it for scripts, all else fits.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from dimofs import skeletons
from dimofs.detections import Detections
from dimofs.formats.writers import About
from dimofs.pages.player import page
from dimofs.sources import video_source
from dimofs.video import Frame
from tests.support.browser import Page, chromium

FRAMES, PEOPLE, RATE = 10_000, 20, 30
JOINTS = len(skeletons.DIMOFS)
DRAWN = 100
# Draws frames far apart, one in each frame of the screen.
DRAW = f"""
window.done = false;
let i = 0;
requestAnimationFrame(function turn() {{
  shown((i++ * 1013) % about.frames);
  if (i < {DRAWN}) requestAnimationFrame(turn);
  else window.done = true;
}});
"""


def write(path: Path) -> None:
    """A page without film of people who walk at random."""
    generator = torch.Generator().manual_seed(0)
    about = About(
        source="x", name="x", width=1920, height=1080, fps=RATE, keypoint_names=skeletons.DIMOFS, model="", delta=0
    )
    blank = np.zeros((1080, 1920, 3), np.uint8)
    centres = torch.rand(PEOPLE, 1, 2, generator=generator) * torch.tensor([1600.0, 700]) + 150
    shape = torch.randn(PEOPLE, JOINTS, 2, generator=generator) * 60
    with page(path, about, video_source(Path("x.mp4")), None, False) as put:
        for i in range(FRAMES):
            centres += torch.randn(PEOPLE, 1, 2, generator=generator)
            points = centres + shape
            boxes = torch.cat((points.amin(1), points.amax(1)), 1)
            # Each person is replaced by another after 500 frames.
            ids = torch.arange(PEOPLE) + PEOPLE * (i // 500)
            people = Detections(boxes, torch.rand(PEOPLE), points, torch.full((PEOPLE, JOINTS), 3.0), ids)
            put(Frame(blank, i, i / RATE, 1 / RATE), people)


def main() -> None:
    with TemporaryDirectory() as folder, chromium() as driver:
        path = Path(folder) / "x.html"
        write(path)
        before = time.perf_counter()
        view = Page(driver, path)
        print(f"{path.stat().st_size / 2**20:.0f} MiB, opened in {time.perf_counter() - before:.1f} s")
        # Of the thread alone, whatever else the machine does.
        driver.execute_cdp_cmd("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        driver.execute_cdp_cmd("Performance.enable", {})
        # The first frames are slower, while the browser compiles.
        for name in 3 * ("without motion arrows", "with motion arrows"):
            start = scripts(driver)
            view.run(DRAW)
            view.wait("window.done", 100)
            print(f"{name}: {(scripts(driver) - start) / DRAWN:.2f} ms of scripts a frame")
            view.find("#motion").click()
        start = scripts(driver)
        view.run("window.done = false; setTimeout(() => { paintTimeline(); window.done = true; })")
        view.wait("window.done")
        print(f"timeline: {scripts(driver) - start:.0f} ms")
        view.run("player.go(0); player.play(1)")
        start, first = scripts(driver), view.run("return current")
        time.sleep(10)
        spent, frames = scripts(driver) - start, view.run("return current") - first
        print(f"playing: {frames} frames in 10 s, {spent / max(1, frames):.2f} ms of scripts a frame")


def scripts(driver) -> float:
    """Milliseconds of processor time that scripts have taken so far."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return 1000 * next(entry["value"] for entry in metrics if entry["name"] == "ScriptDuration")


if __name__ == "__main__":
    main()
