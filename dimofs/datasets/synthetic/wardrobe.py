"""Clothes of synthetic people: colours, patterns and the textures with which strokes are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dimofs.datasets.synthetic.strokes import TEXTURE

SKINS = np.array([(242, 205, 180), (229, 184, 152), (205, 154, 118), (165, 115, 82), (118, 80, 58), (84, 58, 44)])
HAIRS = np.array([(28, 24, 22), (60, 42, 30), (98, 66, 40), (150, 110, 62), (205, 170, 110), (140, 138, 136)])
CLOTHS = np.array(
    [
        (235, 235, 232), (38, 38, 42), (98, 100, 106), (170, 38, 42), (40, 62, 122), (60, 110, 170), (52, 102, 62),
        (222, 186, 60), (210, 112, 48), (120, 62, 120), (222, 158, 172), (130, 190, 196), (150, 116, 84), (30, 44, 70),
    ]
)  # fmt: skip
TROUSERS = np.array([(42, 52, 82), (66, 86, 128), (34, 34, 38), (84, 84, 88), (120, 104, 82), (168, 152, 122)])
SHOES = np.array([(32, 30, 30), (222, 222, 218), (96, 62, 42), (170, 48, 48), (60, 80, 130)])
MATERIALS = ("torso", "yoke", "upper", "fore", "skin", "hair", "thigh", "calf", "hips", "shoe", "dark", "lip", "shadow")


@dataclass(frozen=True)
class Dress:
    """Colours (RGB, 0 to 255), the pattern of the shirt, and the lengths of sleeves and trousers.

    second: the other colour of the shirt's pattern.
    sleeve: how much of the arm is covered: 1 to the elbow, 2 to the wrist.
    leg:    how much of the leg is covered: 1 to the knee, 2 to the ankle.
    """

    skin: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    second: np.ndarray
    trousers: np.ndarray
    shoe: np.ndarray
    pattern: str
    sleeve: float
    leg: float

    @staticmethod
    def sample(random: np.random.Generator) -> Dress:
        """Random everyday clothes."""
        tint = random.normal(0, 1, (5, 3)) * np.array((4, 9, 9, 9, 9))[:, None]

        def pick(colours: np.ndarray, which: int) -> np.ndarray:
            return np.clip(colours[random.integers(len(colours))] + tint[which], 8, 250)

        tone = random.uniform(0, len(SKINS) - 1.01)
        low = int(tone)
        skin = SKINS[low] + (tone - low) * (SKINS[low + 1] - SKINS[low])
        patterns = ("plain", "plain", "plain", "stripes", "columns", "checks", "halves", "logo")
        return Dress(
            skin=skin,
            hair=pick(HAIRS if tone < 2.5 else HAIRS[:2], 0),
            shirt=pick(CLOTHS, 1),
            second=pick(CLOTHS, 2),
            trousers=pick(TROUSERS if random.random() < 0.75 else CLOTHS, 3),
            shoe=pick(SHOES, 4),
            pattern=str(random.choice(patterns)),
            sleeve=float(random.choice((0.0, 0.6, 0.75, 2.0, 2.0))),
            leg=float(random.choice((0.9, 2.0, 2.0, 2.0))),
        )


def textures(dress: Dress, random: np.random.Generator) -> np.ndarray:
    """The texture of each material, [len(MATERIALS), *TEXTURE, 3] float32, RGB 0 to 255."""
    u = ((np.arange(TEXTURE[0]) + 0.5) / TEXTURE[0])[:, None]
    v = ((np.arange(TEXTURE[1]) + 0.5) / TEXTURE[1] * 2 - 1)[None]
    shirt = np.where(_pattern(dress.pattern, u, v)[..., None], dress.second, dress.shirt)
    plain = {
        "torso": shirt,
        "yoke": dress.shirt,
        "upper": np.where((u < dress.sleeve)[..., None], shirt if dress.pattern != "logo" else dress.shirt, dress.skin),
        "fore": np.where(
            (u < dress.sleeve - 1)[..., None], shirt if dress.pattern != "logo" else dress.shirt, dress.skin
        ),
        "skin": dress.skin,
        "hair": dress.hair * (1 + 0.25 * np.sin(9 * v))[..., None],
        "thigh": np.where((u < dress.leg)[..., None], dress.trousers, dress.skin),
        "calf": np.where((u < dress.leg - 1)[..., None], dress.trousers, dress.skin),
        "hips": dress.trousers,
        "shoe": dress.shoe,
        "dark": np.array((38, 28, 26)),
        "lip": dress.skin * (0.72, 0.5, 0.5),
        "shadow": np.zeros(3),
    }
    atlas = np.empty((len(MATERIALS), *TEXTURE, 3), np.float32)
    for layer, name in zip(atlas, MATERIALS, strict=True):
        layer[:] = plain[name]
    rough = np.array([0.02 if name in ("skin", "dark", "lip", "shadow") else 0.035 for name in MATERIALS])
    folds = random.standard_normal((len(MATERIALS), 9, 5, 1))
    fine = random.standard_normal((len(MATERIALS), *TEXTURE, 1), dtype=np.float32)
    coarse = np.repeat(np.repeat(folds, 4, 1)[:, : TEXTURE[0]], 4, 2)[:, :, : TEXTURE[1]]
    atlas *= 1 + rough[:, None, None, None] * (0.9 * coarse + 0.7 * fine)
    return atlas


def _pattern(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """[*TEXTURE] bool: where the shirt has its second colour."""
    both = u + 0 * v
    if name == "stripes":
        return both * 10 % 2 < 0.8
    if name == "columns":
        return (v + 0 * u + 1) * 4 % 1 < 0.4
    if name == "checks":
        return (both * 12 % 2 < 1) ^ ((v + 1) * 3 % 2 < 1)
    if name == "halves":
        return both > 0.5
    if name == "logo":
        return (np.abs(u - 0.32) < 0.13) & (np.abs(v) < 0.35)
    return np.zeros(both.shape, bool)
