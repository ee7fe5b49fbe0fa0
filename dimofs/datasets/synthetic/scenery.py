"""Places of synthetic scenes: a painted backdrop larger than the frame, things in front of people, and a camera.

World pixels are those of the frame before the camera moves. The backdrop is painted in them and extends beyond the
frame on all sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# How far the backdrop extends beyond the frame on each side, in units of its height and width.
MARGIN = (0.15, 0.3)
# Range of the height of the nearest person, in units of the frame's height.
NEAREST = (0.38, 0.92)
# Cars are painted only below this scale: pixels a metre, in units of the frame's height.
LARGEST_CAR = 0.3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The frame and the floor in it: a person with the scale s pixels a metre stands at world y = horizon + s * eye.

    eye:     height of the camera above the floor, in metres.
    nearest: scale of the nearest person.
    focal:   focal length in pixels.
    """

    height: int
    width: int
    horizon: float
    eye: float
    nearest: float

    @property
    def focal(self) -> float:
        return 1.3 * max(self.height, 0.75 * self.width)

    @staticmethod
    def sample(random: np.random.Generator, height: int, width: int) -> Stage:
        """A random floor, on which the nearest person has the height `NEAREST`."""
        low, high = NEAREST
        tall = low * (high / low) ** random.random()
        foot = height * max(random.uniform(0.8, 1.0), min(tall + 0.06, 0.99))
        scale = tall * height / 1.72
        eye = random.uniform(0.9, min(2.6, max(1.0, (foot / height - 0.05) * height / scale)))
        return Stage(height=height, width=width, horizon=foot - eye * scale, eye=eye, nearest=scale)


@dataclass(frozen=True)
class Camera:
    """The view at T moments.

    shift: [T, 2] world pixels, x y, from the middle of the frame to the middle of the view.
    zoom:  [T], at least 1.
    """

    shift: np.ndarray
    zoom: np.ndarray

    @staticmethod
    def sample(random: np.random.Generator, time: np.ndarray, height: int, width: int) -> Camera:
        """A random camera that stands still, or shakes, or pans, zooms and shakes."""
        room = np.array((MARGIN[1] * width, MARGIN[0] * height)) - 4
        kind = random.choice(("still", "shake", "pan"), p=(0.3, 0.3, 0.4))
        shift, zoom = np.zeros((len(time), 2)), np.ones(len(time))
        if kind == "still":
            return Camera(shift, zoom)
        shake = 0.006 * height * random.uniform(0.2, 1, (3, 1, 2))
        speed, phase = random.uniform(2, 14, (3, 1, 2)), random.uniform(0, 6.3, (3, 1, 2))
        shift = (shake * np.sin(speed * time[:, None] + phase)).sum(0)
        if kind == "pan":
            slow, start = random.uniform(0.3, 1.1, 2), random.uniform(0, 6.3, 2)
            shift = shift + 0.8 * room * (1, 0.3) * np.sin(slow * time[:, None] + start)
            zoom = 1.12 + 0.12 * np.sin(random.uniform(0.2, 1.0) * time + random.uniform(0, 6.3))
        return Camera(np.clip(shift, -room, room), zoom)

    def project(self, points: np.ndarray, number: int | slice, height: int, width: int) -> np.ndarray:
        """World pixels [..., 2] -> frame pixels at moment `number`; [T, ..., 2] for a slice of moments."""
        middle = np.array((width / 2, height / 2))
        shift, zoom = self.shift[number], self.zoom[number]
        while shift.ndim < points.ndim:
            shift, zoom = shift[..., None, :], zoom[..., None]
        return (points - middle - shift) * zoom[..., None] + middle


@dataclass(frozen=True)
class Thing:
    """A thing that people pass in front or behind.

    box:    x1 y1 x2 y2, whole pixels of the backdrop.
    mask:   [h, w] float32, its coverage of the pixels in the box.
    ground: world y of its foot, by which it is ordered in depth among people.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray
    ground: float


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """A painted place.

    image:  [H', W', 3] float32 RGB 0 to 255, the backdrop with the things painted on it.
    things: the nearest first.
    origin: world x y of the upper left corner of `image`.
    light:  [2] float32, the direction to the light in the image; its length is the strength.
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    origin: tuple[int, int]
    light: np.ndarray

    def view(self, camera: Camera, number: int, height: int, width: int) -> np.ndarray:
        """[H, W, 3] float32: the part of the backdrop that the camera sees at moment `number`."""
        rows, columns = self._steps(camera, number, height, width)
        return _sample(self.image, rows, columns)

    def covered(self, camera: Camera, number: int, height: int, width: int) -> np.ndarray:
        """[N + 1, H, W] float32: how far the n nearest things together cover each pixel, n = 0 to N."""
        rows, columns = self._steps(camera, number, height, width)
        masks = np.zeros((len(self.things) + 1, height, width), np.float32)
        for n, thing in enumerate(self.things, 1):
            x1, y1, x2, y2 = thing.box
            ys, xs = (_within(steps, low, high) for steps, low, high in ((rows, y1, y2), (columns, x1, x2)))
            masks[n] = masks[n - 1]
            if ys.stop > ys.start and xs.stop > xs.start:
                seen = _sample(thing.mask[..., None], rows[ys] - y1, columns[xs] - x1)[..., 0]
                masks[n, ys, xs] = np.maximum(masks[n, ys, xs], seen)
        return masks

    def _steps(self, camera: Camera, number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The place on the backdrop of each row and column of the frame: y [H], x [W], pixel centres at integers."""
        x, y = camera.shift[number] - self.origin
        zoom = camera.zoom[number]
        rows = (np.arange(height) + 0.5 - height / 2) / zoom + height / 2 + y - 0.5
        columns = (np.arange(width) + 0.5 - width / 2) / zoom + width / 2 + x - 0.5
        return rows, columns


def _within(steps: np.ndarray, low: float, high: float) -> slice:
    """The part of the ascending `steps` that lies from low to high - 1, pixel centres at integers."""
    return slice(int(np.searchsorted(steps, low)), int(np.searchsorted(steps, high - 1, side="right")))


def _sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear samples [H, W, C] of an image [h, w, C] float32 at ascending rows [H] and columns [W] inside it."""
    left, right = int(columns[0]), int(columns[-1]) + 2
    return _between(_between(image[:, left:right], rows, 0), columns - left, 1)


def _between(image: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    """Linear samples along an axis, as a new array."""
    low = np.floor(steps).astype(np.int64)
    share = (steps - low).astype(np.float32)
    # Without zoom all steps have the same fraction, and the image is shifted as a whole.
    even = share.max() - share.min() < 1e-6 and low[-1] - low[0] == len(low) - 1
    if even and share[0] < 1e-6:
        return _shifted(image, low, axis).copy()
    if even and low[-1] + 1 < image.shape[axis]:
        first, second = _shifted(image, low, axis), _shifted(image, low + 1, axis)
        return first * (1 - share[0]) + second * share[0]
    first, second = image.take(low, axis), image.take(np.minimum(low + 1, image.shape[axis] - 1), axis)
    second -= first
    second *= share[:, None, None] if axis == 0 else share[:, None]
    second += first
    return second


def _shifted(image: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    """A view of the rows (axis 0) or columns (axis 1) from steps[0] to steps[-1]."""
    part = slice(int(steps[0]), int(steps[-1]) + 1)
    return image[part] if axis == 0 else image[:, part]


# --- painting the backdrop ---


def paint_scenery(random: np.random.Generator, stage: Stage, things: int) -> Scenery:
    """A random street, field, hall or wall, with this number of `things` in front of it."""
    height, width, horizon = stage.height, stage.width, stage.horizon
    my, mx = round(MARGIN[0] * height), round(MARGIN[1] * width)
    image = np.empty((height + 2 * my, width + 2 * mx, 3), np.float32)
    far = int(np.clip(horizon + my, 1, len(image) - 1))
    place = str(random.choice(("street", "field", "hall", "wall")))
    _BACKS[place](image[:far], random, height)
    _FLOORS[place](image[far:], random, height)
    image *= 1 + 0.08 * noise(random, image.shape[:2], 60)[..., None]
    # The light comes from above, left or right.
    angle = random.uniform(-2.6, -0.5)
    light = random.uniform(0.1, 0.35) * np.array((np.cos(angle), np.sin(angle)))
    # The nearest has the largest scale and is painted last.
    scales = sorted(random.uniform(0.55, 1.05, things) * stage.nearest)
    placed = [_thing(image, random, stage, (mx, my), scale) for scale in scales]
    image *= random.uniform(0.75, 1.1)
    np.clip(image, 0, 255, out=image)
    things_placed = tuple(placed[::-1])
    return Scenery(image=image, things=things_placed, origin=(-mx, -my), light=light.astype(np.float32))


def noise(random: np.random.Generator, shape: tuple[int, int], size: float, octaves: int = 3) -> np.ndarray:
    """[*shape] float32: smooth noise of standard deviation about 1; its largest spots measure `size` pixels."""
    total, weight = np.zeros(shape, np.float32), 1.0
    for _ in range(octaves):
        knots = [max(2, int(n / size) + 2) for n in shape]
        grid = random.standard_normal((*knots, 1), dtype=np.float32)
        rows, columns = (np.linspace(0, k - 1.001, n) for k, n in zip(knots, shape, strict=True))
        total += np.float32(weight) * _sample(grid, rows, columns)[..., 0]
        size, weight = max(size / 3, 1.5), weight * 0.6
    return total


def _colour(random: np.random.Generator, low: float, high: float, tint: float = 8.0) -> np.ndarray:
    """A random RGB colour near grey."""
    return np.clip(random.uniform(low, high) + random.normal(0, tint, 3), 5, 250).astype(np.float32)


def _sky(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    fall = np.linspace(0, 1, len(image), dtype=np.float32)[:, None, None]
    blue = np.array((110, 155, 215), np.float32) if random.random() < 0.7 else np.array((165, 170, 178), np.float32)
    image[:] = blue + fall * (np.array((225, 228, 232)) - blue).astype(np.float32)
    clouds = np.clip(noise(random, image.shape[:2], 0.35 * height), 0, 1)[..., None]
    image += 0.4 * clouds * (245 - image)


def _buildings(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    """Sky, and a row of houses with windows."""
    _sky(image, random, height)
    high, wide, _ = image.shape
    x = -random.integers(0, max(2, height // 3))
    while x < wide:
        w = int(random.integers(height // 4, height))
        top = int(random.integers(0, max(1, int(0.6 * high))))
        _house(image[top:, max(x, 0) : x + w], random, height)
        x += w + int(random.choice((0, 0, height // 12)))


def _house(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    image[:] = _colour(random, 90, 210)
    image += 6 * noise(random, image.shape[:2], 6, 2)[..., None]
    dx, dy = (int(random.uniform(0.08, 0.16) * height) + 3 for _ in range(2))
    y, x = np.arange(len(image))[:, None] % dy, np.arange(image.shape[1])[None] % dx
    window = (y > 0.3 * dy) & (y < 0.85 * dy) & (x > 0.25 * dx) & (x < 0.8 * dx)
    frame = (y > 0.22 * dy) & (y < 0.92 * dy) & (x > 0.18 * dx) & (x < 0.87 * dx)
    image[frame] = _colour(random, 60, 230)
    image[window] = _colour(random, 30, 140)


def _trees(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    """Sky, and trees of uneven height."""
    _sky(image, random, height)
    high, wide, _ = image.shape
    edge = noise(random, (1, wide), 0.4 * height, 4)[0] * 0.12 * height + random.uniform(0.25, 0.8) * high
    leaves = np.arange(high)[:, None] > high - edge
    green = np.array((58, 92, 44), np.float32) + random.normal(0, 14, 3).astype(np.float32)
    shade = np.clip(1 + 0.22 * noise(random, (high, wide), 12, 3), 0.35, 1.8)[..., None]
    np.copyto(image, green * shade, where=leaves[..., None])


def _panels(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    """An indoor wall with panels and pictures."""
    image[:] = _colour(random, 110, 225)
    high, wide, _ = image.shape
    step = int(random.uniform(0.25, 0.7) * height)
    image[:, np.arange(wide) % step < 2] *= 0.8
    for _ in range(random.integers(2, 8)):
        w, h = (int(random.uniform(0.1, 0.35) * height) for _ in range(2))
        x, y = int(random.integers(0, wide)), int(random.uniform(0, 0.6) * high)
        image[y : y + h, x : x + w] = _colour(random, 40, 200, 26)
        inner = image[y + 3 : y + h - 3, x + 3 : x + w - 3]
        inner[:] = _colour(random, 40, 220, 30)
        inner += 18 * noise(random, inner.shape[:2], 14)[..., None] if inner.size else 0
    image[-max(2, height // 40) :] *= 0.6


def _bricks(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    """A wall of bricks or blocks."""
    high, wide, _ = image.shape
    h = random.uniform(0.03, 0.09) * height + 2
    w = h * random.uniform(1.6, 3.0)
    row = np.floor(np.arange(high)[::-1, None] / h)
    x = np.arange(wide)[None] / w + 0.5 * (row % 2)
    joint = (np.arange(high)[::-1, None] % h < 1) | (x % 1 * w < 1)
    each = random.normal(1, 0.1, (int(row.max()) + 1, int(x.max()) + 1)).astype(np.float32)
    image[:] = _colour(random, 80, 190, 11) * each[row.astype(int), x.astype(int)][..., None]
    image += 7 * noise(random, (high, wide), 5, 2)[..., None]
    image[joint] *= 0.75


def _grass(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    green = np.array((96, 128, 62), np.float32) + random.normal(0, 16, 3).astype(np.float32)
    spots = 0.1 * noise(random, image.shape[:2], 0.3 * height, 2) + 0.09 * noise(random, image.shape[:2], 4, 2)
    image[:] = green * (1 + spots)[..., None]


def _tiles(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    """A tiled floor in perspective."""
    high, wide, _ = image.shape
    # Approximate distance of each row in metres.
    far = 0.3 * height / (np.arange(high)[:, None] + 0.05 * height)
    across = (np.arange(wide)[None] - random.uniform(0.2, 0.8) * wide) / height * far * random.uniform(3, 6)
    along = far * random.uniform(3, 8)
    tile = (np.floor(across) * 7 + np.floor(along) * 13).astype(int) % 16
    tone = random.normal(1, random.choice((0.02, 0.08)), 16).astype(np.float32)
    line = (across % 1 < 0.06) | (along % 1 < 0.06)
    image[:] = _colour(random, 80, 190, 6) * (tone[tile] * np.where(line, np.float32(0.85), np.float32(1)))[..., None]
    image += 5 * noise(random, (high, wide), 5, 2)[..., None]


def _asphalt(image: np.ndarray, random: np.random.Generator, height: int) -> None:
    image[:] = _colour(random, 85, 165, 5)
    image += (7 * noise(random, image.shape[:2], 3, 1) + 5 * noise(random, image.shape[:2], 40, 2))[..., None]
    top = max(1, height // 16)
    # The pavement behind the road.
    image[:top] += 25
    for y in random.integers(top, max(len(image), top + 1), 2):
        image[y : y + max(1, y // 24)] = _colour(random, 190, 235, 4)


_BACKS = {"street": _buildings, "field": _trees, "hall": _panels, "wall": _bricks}
_FLOORS = {"street": _asphalt, "field": _grass, "hall": _tiles, "wall": _tiles}


# --- things in front ---


def _thing(
    image: np.ndarray, random: np.random.Generator, stage: Stage, margin: tuple[int, int], scale: float
) -> Thing:
    """Paint a post, a box or a car into the backdrop where a metre measures `scale` pixels."""
    ground = min(stage.horizon + stage.eye * scale, 1.1 * stage.height)
    kind = random.choice(("post", "box", "car") if scale < LARGEST_CAR * stage.height else ("post", "box"))
    sizes = {
        "post": (random.uniform(2.2, 4.5), random.uniform(0.1, 0.3)),
        "box": random.uniform((0.7, 0.6), (1.3, 2.0)),
    }
    tall, long = sizes.get(kind, (1.4, random.uniform(3.4, 4.4)))
    rows, columns = max(2, int(tall * scale)), max(2, int(long * scale))
    x = int(margin[0] + random.uniform(-0.05, 1.05) * (image.shape[1] - 2 * margin[0]) - columns / 2)
    x1, x2 = int(np.clip(x, 0, image.shape[1])), int(np.clip(x + columns, 0, image.shape[1]))
    bottom = int(np.clip(ground + margin[1], 2, len(image)))
    y1 = max(0, bottom - rows)
    colours, mask = (_car if kind == "car" else _block)(random, bottom - y1, columns)
    colours, mask = colours[:, x1 - x : x2 - x], mask[:, x1 - x : x2 - x]
    patch = image[y1:bottom, x1:x2]
    patch += (colours - patch) * mask[..., None]
    return Thing((x1, y1, x2, bottom), mask, ground)


def _block(random: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """A post or a box: colours [rows, columns, 3] and mask [rows, columns]."""
    side = np.linspace(-1, 1, columns, dtype=np.float32)[None, :, None]
    colours = _colour(random, 50, 200, 15) * (1 - 0.3 * side * side + 0.1 * side)
    colours = colours * (1 + 0.06 * noise(random, (rows, columns), 8))[..., None]
    colours[: max(1, rows // 40)] *= 1.2
    return colours, np.ones((rows, columns), np.float32)


def _car(random: np.random.Generator, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """A car from the side: colours [rows, columns, 3] and mask [rows, columns]."""
    y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows
    x = (np.arange(columns, dtype=np.float32)[None] + 0.5) / columns
    body = (y > 0.42) & (y < 0.86) & (np.abs(x - 0.5) < 0.5 - 0.06 * np.abs(y - 0.65) / 0.2)
    cabin = (y > 0.04) & (y <= 0.45) & (np.abs(x - 0.5) < 0.22 + 0.28 * y)
    pane = (y > 0.1) & (y < 0.42) & (np.abs(x - 0.5) < 0.17 + 0.28 * y) & (np.abs(x - 0.5) > 0.02)
    wheel = np.zeros((rows, columns), bool)
    for middle in (0.2, 0.8):
        wheel |= ((x - middle) * columns) ** 2 + ((y - 0.82) * rows) ** 2 < (0.18 * rows) ** 2
    colours = np.empty((rows, columns, 3), np.float32)
    colours[:] = _colour(random, 50, 220, 35) * (1.1 - 0.4 * np.clip(y - 0.3, 0, 1))[..., None]
    colours[pane], colours[wheel] = _colour(random, 30, 90, 6), (28, 28, 30)
    return colours, (body | cabin | wheel).astype(np.float32)
