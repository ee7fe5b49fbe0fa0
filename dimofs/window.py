"""`Window`: frames shown while they are processed, by Python's own tkinter."""

from __future__ import annotations

from time import sleep
from types import TracebackType

import numpy as np

from dimofs.cli import InputError


class Window:
    """A window that shows one picture after the other; a context.

    InputError: there is no display, or this Python has no tkinter.
    """

    def __init__(self, title: str):
        try:
            import tkinter
        except ImportError as error:
            raise InputError("no window: this Python has no tkinter; install it (Debian: python3-tk)") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(f"no window: {error}; without a display the results can be saved, not shown") from error
        self._images = tkinter.PhotoImage
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self.open = True
        self._root.protocol("WM_DELETE_WINDOW", self._closed)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self._closed())

    def __enter__(self) -> Window:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._root.destroy()

    def show(self, pixels: np.ndarray) -> bool:
        """Show [H, W, 3] uint8 RGB, reduced by a whole number to fit the screen. Returns whether the window is open:
        the reader may close it by its button, by Escape or by q."""
        if not self.open:
            return False
        height, width, _ = pixels.shape
        room = 0.9 * min(self._root.winfo_screenheight() / height, self._root.winfo_screenwidth() / width)
        step = max(1, int(np.ceil(1 / room)))
        pixels = np.ascontiguousarray(pixels[::step, ::step])
        # The picture must outlive this call: tkinter itself keeps no reference to it.
        self._image = self._images(data=b"P6 %d %d 255\n" % pixels.shape[1::-1] + pixels.tobytes())
        self._label.configure(image=self._image)
        self._root.update()
        return self.open

    def wait(self) -> None:
        """Return when the reader has closed the window."""
        while self.open:
            self._root.update()
            sleep(0.02)

    def _closed(self) -> None:
        self.open = False
