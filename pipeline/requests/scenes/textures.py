"""Backgrounds made of the photographs that scikit-image and scikit-learn ship in their wheels; nothing is downloaded.

A background is a crop, flipped and tinted, its contrast held down so that what lies on it stays clear.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.editors.shapes import ImageF32
from schemas.errors import BadInput

_MAX_CONTRAST = 0.105
_THUMBNAIL_PX = 24


@dataclass(frozen=True)
class _Photo:
    """Where a texture comes from. part: usable area as shares [x1, y1, x2, y2]; crop: side of a crop, share of it.

    tints: sRGB that a grey photograph is coloured with; empty for one with colours of its own.
    blur: softness as a share of the image's side, for photographs whose things would vie with the objects.
    """

    file: str
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    crop: tuple[float, float] = (0.4, 0.8)
    tints: tuple[tuple[int, int, int], ...] = ()
    blur: float = 0.0


_SKIMAGE, _SKLEARN = "skimage:data/", "sklearn:datasets/images/"
_PHOTOS: dict[str, _Photo] = {
    "astronaut": _Photo(_SKIMAGE + "astronaut.png", (0.0, 0.42, 0.6, 1.0), (0.6, 1.0), blur=0.012),
    "brick": _Photo(_SKIMAGE + "brick.png", tints=((186, 118, 92), (196, 176, 150), (128, 140, 156))),
    "cell": _Photo(_SKIMAGE + "cell.png", (0.0, 0.0, 1.0, 0.4), tints=((120, 168, 160), (170, 150, 190))),
    "chelsea": _Photo(_SKIMAGE + "chelsea.png", (0.05, 0.0, 1.0, 1.0), (0.6, 0.95), blur=0.012),
    "china": _Photo(_SKLEARN + "china.jpg", (0.0, 0.0, 1.0, 1.0), (0.5, 0.9), blur=0.010),
    "coffee": _Photo(_SKIMAGE + "coffee.png", (0.0, 0.0, 1.0, 1.0), (0.5, 0.9), blur=0.010),
    "flower": _Photo(_SKLEARN + "flower.jpg", (0.0, 0.0, 1.0, 1.0), (0.5, 0.9), blur=0.010),
    "grass": _Photo(_SKIMAGE + "grass.png", tints=((112, 158, 84), (164, 164, 122), (150, 140, 110))),
    "gravel": _Photo(_SKIMAGE + "gravel.png", tints=((170, 164, 156), (180, 150, 120), (130, 146, 164))),
    "hubble_deep_field": _Photo(_SKIMAGE + "hubble_deep_field.jpg", crop=(0.35, 0.7)),
    "ihc": _Photo(_SKIMAGE + "ihc.png", crop=(0.4, 0.8)),
    "moon": _Photo(_SKIMAGE + "moon.png", crop=(0.5, 0.95), tints=((176, 172, 164), (140, 150, 176), (190, 150, 130))),
    "motorcycle": _Photo(_SKIMAGE + "motorcycle_left.png", crop=(0.5, 0.9), blur=0.014),
    "retina": _Photo(_SKIMAGE + "retina.jpg", (0.2, 0.2, 0.8, 0.8), (0.5, 0.95)),
    "rocket": _Photo(_SKIMAGE + "rocket.jpg", (0.0, 0.0, 1.0, 0.95), (0.5, 0.9), blur=0.008),
}
#: Names of the textures that a background can be made of; a pool is any tuple of these.
TEXTURES: tuple[str, ...] = tuple(_PHOTOS)


def check_textures(names: tuple[str, ...]) -> None:
    """Raises: BadInput for an empty pool or a name that `TEXTURES` does not have."""
    unknown = [name for name in names if name not in _PHOTOS]
    if unknown or not names:
        what = f"has no texture {unknown[0]!r}" if unknown else "is empty"
        raise BadInput("textures", what, f"choose from {', '.join(TEXTURES)}")


@lru_cache(maxsize=len(_PHOTOS))
def load_texture(name: str) -> NDArray[np.uint8]:
    """The usable part of a texture's photograph: HWC uint8 RGB, not writeable.

    Raises: BadInput where the name is unknown or the wheel does not hold the file.
    """
    check_textures((name,))
    package, _, inside = _PHOTOS[name].file.partition(":")
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else Path(inside)
    if not path.is_file():
        raise BadInput(f"texture {name}", f"{package} is installed without {inside}", "install its full wheel")
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    x1, y1, x2, y2 = _PHOTOS[name].part
    image = image.crop((int(x1 * image.width), int(y1 * image.height), int(x2 * image.width), int(y2 * image.height)))
    pixels = np.array(image, dtype=np.uint8)
    pixels.setflags(write=False)
    return pixels


@dataclass(frozen=True)
class BackgroundPlan:
    """Which crop of which texture: centre and side as shares of the free play and of the shorter side."""

    texture: str
    centre: tuple[float, float]
    side: float
    flip: bool
    tint: tuple[int, int, int]
    tint_share: float


def plan_background(texture: str, rng: np.random.Generator) -> BackgroundPlan:
    """Draws a crop, a flip and a tint for `texture`."""
    photo = _PHOTOS[texture]
    centre = (float(rng.random()), float(rng.random()))
    side, flip = float(rng.uniform(*photo.crop)), bool(rng.random() < 0.5)
    if photo.tints:
        return BackgroundPlan(texture, centre, side, flip, photo.tints[rng.integers(len(photo.tints))], 1.0)
    tint = tuple(int(v) for v in rng.integers(90, 200, 3))
    return BackgroundPlan(texture, centre, side, flip, (tint[0], tint[1], tint[2]), float(rng.uniform(0.0, 0.3)))


def vary_background(plan: BackgroundPlan, rng: np.random.Generator) -> BackgroundPlan:
    """The same texture and tint through another crop and flip."""
    low, high = _PHOTOS[plan.texture].crop
    centre = (float(rng.random()), float(rng.random()))
    side = float(np.clip(plan.side * rng.uniform(0.85, 1.15), low, high))
    return BackgroundPlan(plan.texture, centre, side, bool(rng.random() < 0.5), plan.tint, plan.tint_share)


def background_pixels(plan: BackgroundPlan, size_px: int) -> ImageF32:
    """The background: (size, size, 3) float32 in [0, 1]. Its mean colour does not depend on the size."""
    crop = _crop(plan)
    shift, gain = _tone(plan)
    pixels = _resized(crop, size_px)
    softness_px = _PHOTOS[plan.texture].blur * size_px
    if softness_px > 0.4:
        softened = cv2.GaussianBlur(pixels, (0, 0), softness_px, borderType=cv2.BORDER_REFLECT_101)
        pixels = np.asarray(softened, dtype=np.float32)
    toned = _tinted(pixels, plan) * gain + shift
    return np.clip(toned, np.float32(0.03), np.float32(0.97), out=toned)


@lru_cache(maxsize=256)
def _thumbnail(plan: BackgroundPlan) -> ImageF32:
    return background_pixels(plan, _THUMBNAIL_PX)


def background_mean(plan: BackgroundPlan) -> NDArray[np.float32]:
    """The background's mean colour: (3,) sRGB in [0, 1]."""
    return np.asarray(_thumbnail(plan).mean(axis=(0, 1)), dtype=np.float32)


def background_mean_at(plan: BackgroundPlan, centre: tuple[float, float], radius: float) -> NDArray[np.float32]:
    """As `background_mean`, of the square about a place; centre (x, y) and radius as shares of the side."""
    x1, y1 = (max(0, int((c - radius) * _THUMBNAIL_PX)) for c in centre)
    x2, y2 = (int((c + radius) * _THUMBNAIL_PX) + 1 for c in centre)
    return np.asarray(_thumbnail(plan)[y1:y2, x1:x2].mean(axis=(0, 1)), dtype=np.float32)


def _crop(plan: BackgroundPlan) -> NDArray[np.uint8]:
    photo = load_texture(plan.texture)
    height, width = photo.shape[:2]
    side = max(8, int(plan.side * min(height, width)))
    x, y = int(plan.centre[0] * (width - side)), int(plan.centre[1] * (height - side))
    crop = photo[y : y + side, x : x + side]
    return cast(NDArray[np.uint8], cv2.flip(crop, 1)) if plan.flip else crop  # faster than a copy of crop[:, ::-1]


def _resized(crop: NDArray[np.uint8], size_px: int) -> ImageF32:
    way = cv2.INTER_AREA if crop.shape[0] > size_px else cv2.INTER_CUBIC
    resized = cv2.resize(crop, (size_px, size_px), interpolation=way)
    return np.asarray(resized, dtype=np.float32) / np.float32(255)


def _tinted(pixels: ImageF32, plan: BackgroundPlan) -> ImageF32:
    tint = np.array(plan.tint, dtype=np.float32) / np.float32(255)
    if plan.tint_share >= 1.0:
        return np.asarray(pixels * (tint * np.float32(1.6)), dtype=np.float32)
    share = np.float32(plan.tint_share)
    return np.asarray(pixels * (1 - share) + tint * share, dtype=np.float32)


@lru_cache(maxsize=256)
def _tone(plan: BackgroundPlan) -> tuple[NDArray[np.float32], np.float32]:
    """(shift, gain) that hold contrast and brightness within bounds: pixels * gain + shift."""
    pixels = _tinted(_resized(_crop(plan), 4 * _THUMBNAIL_PX), plan)
    mean = pixels.mean(axis=(0, 1))
    gain = np.float32(min(1.0, _MAX_CONTRAST / max(float(pixels.std(axis=(0, 1)).mean()), 1e-6)))
    wanted = np.clip(mean, np.float32(0.16), np.float32(0.80))
    return np.asarray(wanted - mean * gain, dtype=np.float32), gain
