"""A headless Chromium for tests of pages; they skip, and say why, where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dimofs.images import read_image

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,800",
    "--force-device-scale-factor=1", "--hide-scrollbars", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser driven by Selenium, with a log of everything that the console would show."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


class Page:
    """A page in a browser."""

    def __init__(self, driver: Any, path: Path):
        self.driver, self.path = driver, path
        # Of earlier pages.
        self.complaints()
        driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Wait until a JavaScript expression is true. TimeoutException if it takes longer."""
        from selenium.webdriver.support.wait import WebDriverWait  # pyright: ignore[reportMissingImports]

        WebDriverWait(self.driver, seconds, 0.02).until(lambda _: self.run(f"return {condition}"), condition)

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def press(self, *keys: str) -> None:
        """Press keys, as nobody in particular has the focus."""
        self.find("body").send_keys(*keys)

    def slide(self, selector: str, value: float) -> None:
        """Move a slider."""
        script = "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        self.run(script + "s.dispatchEvent(new Event('input', {bubbles: true}))", selector, value)

    def picture(self, selector: str) -> np.ndarray:
        """[H, W, 3] uint8: what is seen of an element."""
        path = self.path.with_suffix(".screenshot.png")
        self.find(selector).screenshot(str(path))
        return read_image(path)

    def complaints(self) -> list[str]:
        """What the console shows since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
