"""Pictures whose objects are known to the pixel: procedural scenes, and things pasted on photographs.

Everything is made from a seed. Training and test share no texture of a scene, no photograph (neither as a background
nor as what a cut-out is made of) and no seed. A pasted thing stands out from what lies around it (`_APART` in CIE Lab):
one that nobody can see has no edge to find. Real things on photographs have no exact masks, so there are none here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.editors.shapes import COLOURS, SHAPES, ImageF32, shape_outline
from pipeline.requests.scenes import TEXTURES, render_scene
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.errors import BadInput
from schemas.record import short_hash

Kind = Literal["scene", "pasted"]
KINDS: tuple[Kind, ...] = ("scene", "pasted")

SIZE_PX = 256
#: Never trained on: the last four textures (as in `training.evaluation.localisation_cases`) and these photographs.
TRAINING_TEXTURES, HELD_OUT_TEXTURES = TEXTURES[:-4], TEXTURES[-4:]
_SKIMAGE, _SKLEARN = "skimage:data/", "sklearn:datasets/images/"
TRAINING_PHOTOS = (
    *(_SKIMAGE + name for name in ("astronaut.png", "brick.png", "cell.png", "chelsea.png", "coffee.png", "coins.png")),
    *(_SKIMAGE + name for name in ("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "page.png")),
    *(_SKLEARN + name for name in ("china.jpg", "flower.jpg")),
)
HELD_OUT_PHOTOS = tuple(
    _SKIMAGE + name
    for name in (
        "camera.png",
        "clock_motion.png",
        "moon.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
        "rocket.jpg",
    )
)
HELD_OUT_SEED = 517_904

#: Across, in pixels: from the smallest thing that a 256 px picture shows clearly to three quarters of it.
_SMALLEST_PX, _LARGEST_PX = 24.0, 190.0
_MOST_THINGS = 6
#: Least difference of mean colours, CIE Lab, between a pasted thing and the ring around it.
_APART = 16.0
#: A thing of which less than this share stays visible, or fewer pixels than these, is no object of the picture.
_LEAST_VISIBLE, _LEAST_AREA_PX = 0.7, 60
_TRIES = 4
_SUPERSAMPLE = 4


@dataclass(frozen=True)
class Example:
    """A picture and its objects. image_hwc_u8: (256, 256, 3) RGB.

    labels_hw: (256, 256) uint8, 0 for the background, k >= 1 for the visible pixels of object k; no two touch a pixel.
    """

    kind: Kind
    image_hwc_u8: ImageU8
    labels_hw: NDArray[np.uint8]

    def masks(self) -> list[MaskBool]:
        """The mask of every object, in the order of the labels."""
        return [self.labels_hw == label for label in np.unique(self.labels_hw) if label]


def make_example(kind: Kind, seed: int, index: int, *, held_out: bool) -> Example:
    """Picture number `index` of a seed: the same arguments, the same bytes. Raises: BadInput for a missing photo."""
    if kind == "scene":
        return _scene(seed, index, HELD_OUT_TEXTURES if held_out else TRAINING_TEXTURES)
    rng = np.random.default_rng(int(short_hash("pasted", seed, index), 16))
    return _pasted(rng, HELD_OUT_PHOTOS if held_out else TRAINING_PHOTOS)


def _scene(seed: int, index: int, textures: tuple[str, ...]) -> Example:
    scene = render_scene(seed, index, SIZE_PX, textures=textures)
    labels = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint8)
    for label, thing in enumerate(scene.objects, start=1):
        labels[thing.mask_hw] = label
    return Example("scene", scene.image_hwc_u8, labels)


@lru_cache(maxsize=32)
def load_photo(name: str) -> ImageU8:
    """A photograph that scikit-image or scikit-learn ship: HWC uint8 RGB. Raises: BadInput where it is not there."""
    package, _, inside = name.partition(":")
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else Path(inside)
    if not path.is_file():
        raise BadInput(f"photograph {name}", f"{package} is installed without it", "install the package's full wheel")
    with Image.open(path) as opened:
        pixels = np.array(opened.convert("RGB"), dtype=np.uint8)
    pixels.setflags(write=False)
    return pixels


def _pasted(rng: np.random.Generator, photos: Sequence[str]) -> Example:
    """Up to six things on a crop of a photograph, later ones in front of earlier ones."""
    canvas = _photo_crop(rng, photos, SIZE_PX)
    labels = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint8)
    whole_px: dict[int, int] = {}
    count = int(rng.integers(2, _MOST_THINGS + 1))
    across_px = np.square(rng.uniform(math.sqrt(_SMALLEST_PX), math.sqrt(_LARGEST_PX), count))
    for label, width_px in enumerate(np.sort(across_px)[::-1], start=1):  # the large ones while there is room
        coverage = _free_coverage(rng, labels, float(width_px) / 2)
        if coverage is None:
            continue
        surface = _clear_surface(rng, photos, canvas, coverage)
        if surface is None:
            continue
        if rng.random() < 0.4:
            canvas *= 1 - _shadow(rng, coverage)[:, :, None]
        canvas += (surface - canvas) * coverage[:, :, None]
        labels[coverage >= 0.5] = label
        whole_px[label] = int((coverage >= 0.5).sum())
    for label, area_px in whole_px.items():
        visible = labels == label
        if visible.sum() < max(_LEAST_AREA_PX, _LEAST_VISIBLE * area_px):
            labels[visible] = 0
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.015))
    np.clip(canvas, 0, 1, out=canvas)
    return Example("pasted", np.asarray(canvas * np.float32(255) + np.float32(0.5), dtype=np.uint8), labels)


def _photo_crop(rng: np.random.Generator, photos: Sequence[str], size_px: int) -> ImageF32:
    """A square crop of a photograph, turned, flipped and toned: (size, size, 3) float32 in [0, 1]."""
    photo = load_photo(photos[int(rng.integers(len(photos)))])
    height, width = photo.shape[:2]
    side = int(rng.uniform(0.35, 1.0) * min(height, width))
    x, y = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    crop = np.ascontiguousarray(np.rot90(photo[y : y + side, x : x + side], int(rng.integers(4))))
    way = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    pixels = np.asarray(cv2.resize(crop, (size_px, size_px), interpolation=way), dtype=np.float32) / np.float32(255)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    gain = rng.uniform(0.6, 1.2) * rng.uniform(0.85, 1.15, 3)
    shift = rng.uniform(-0.1, 0.15)
    return np.clip(pixels * gain.astype(np.float32) + np.float32(shift), 0, 1)


def _free_coverage(rng: np.random.Generator, labels: NDArray[np.uint8], radius_px: float) -> ImageF32 | None:
    """The coverage of each pixel by a new object, placed where it occludes little; None where no place was found."""
    for _ in range(_TRIES):
        reach = 0.8 * radius_px
        centre = rng.uniform(reach, SIZE_PX - reach, 2)
        coverage = _coverage(rng, centre, radius_px)
        mask = coverage >= 0.5
        area_px = int(mask.sum())
        if area_px >= _LEAST_AREA_PX and int((labels[mask] > 0).sum()) <= 0.2 * area_px:
            return coverage
    return None


def _coverage(rng: np.random.Generator, centre: NDArray[np.float64], radius_px: float) -> ImageF32:
    """A random outline, filled, its edge softened: (256, 256) float32 in [0, 1]."""
    loops = _random_outline(rng)
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    canvas = np.zeros((SIZE_PX * _SUPERSAMPLE, SIZE_PX * _SUPERSAMPLE), dtype=np.uint8)
    for value, loop in zip((255, 0), loops, strict=False):
        points = (centre + radius_px * loop @ turn) * _SUPERSAMPLE - 0.5
        cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], value, lineType=cv2.LINE_8, shift=4)
    small = cv2.resize(canvas, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
    coverage = np.asarray(small, dtype=np.float32) / np.float32(255)
    softness_px = rng.uniform(0, 1.3)
    if softness_px > 0.3:
        coverage = np.asarray(cv2.GaussianBlur(coverage, (0, 0), softness_px), dtype=np.float32)
    return coverage


def _random_outline(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Loops (N, 2) inside the circle of radius 1: an outline, and a hole where the shape has one."""
    drawn = rng.random()
    if drawn < 0.3:
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        outline = shape_outline(shape)
        return [outline, outline * rng.uniform(0.35, 0.6)] if shape == "ring" else [outline]
    squash = np.array([1.0, rng.uniform(0.4, 1.0)])
    if drawn < 0.6:
        corners = int(rng.integers(3, 10))
        angles = (np.arange(corners) + rng.uniform(0, 0.7, corners)) * (2 * math.pi / corners)
        radii = rng.uniform(0.5, 1.0, corners)
    else:
        angles = np.asarray(np.arange(96) * (2 * math.pi / 96), dtype=np.float64)
        radii = np.ones(96)
        for wave in range(2, 7):
            radii += rng.uniform(0, 0.6 / wave) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi))
        radii /= radii.max()
    return [radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1) * squash]


def _clear_surface(
    rng: np.random.Generator, photos: Sequence[str], canvas: ImageF32, coverage: ImageF32
) -> ImageF32 | None:
    """The object's texture, chosen to contrast with the ring around it; None where none did."""
    mask = coverage >= 0.5
    reach = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    around = _lab(canvas[reach & ~mask].mean(axis=0))
    for _ in range(_TRIES):
        surface = _photo_crop(rng, photos, SIZE_PX) if rng.random() < 0.5 else _drawn_surface(rng)
        shaded = np.clip(surface * _shading(rng)[:, :, None], 0, 1)
        if float(np.linalg.norm(_lab(shaded[mask].mean(axis=0)) - around)) >= _APART:
            return shaded
    return None


def _lab(rgb: ImageF32) -> ImageF32:
    return np.asarray(cv2.cvtColor(rgb.reshape(1, 1, 3).astype(np.float32), cv2.COLOR_RGB2Lab)[0, 0], dtype=np.float32)


def _drawn_surface(rng: np.random.Generator) -> ImageF32:
    """One colour, or two in stripes, checks or speckles: (256, 256, 3) float32."""
    names = list(COLOURS)
    named = np.array(COLOURS[names[int(rng.integers(len(names)))]]) / 255
    colour = named if rng.random() < 0.5 else rng.uniform(0.05, 0.95, 3)
    plain = np.broadcast_to(colour.astype(np.float32), (SIZE_PX, SIZE_PX, 3))
    if rng.random() < 0.5:
        return plain
    ink = np.clip(colour * rng.uniform(0.5, 0.8) if rng.random() < 0.7 else rng.uniform(0.05, 0.95, 3), 0, 1)
    wave: NDArray[Any]
    if rng.random() < 0.25:
        noise = rng.standard_normal((SIZE_PX, SIZE_PX)).astype(np.float32)
        wave = cv2.GaussianBlur(noise, (0, 0), rng.uniform(1.0, 5.0))
        wave = wave / max(float(wave.std()), 1e-6)
    else:
        angle, period_px = rng.uniform(0, math.pi), rng.uniform(6, 30)
        ys, xs = np.mgrid[:SIZE_PX, :SIZE_PX] * (2 * math.pi / period_px)
        wave = np.sin(xs * math.cos(angle) + ys * math.sin(angle))
        if rng.random() < 0.5:
            wave = wave * np.sin(ys * math.cos(angle) - xs * math.sin(angle))
    share = np.clip(0.5 + 2.0 * wave, 0, 1).astype(np.float32)[:, :, None]
    return np.asarray(plain + (ink.astype(np.float32) - plain) * share, dtype=np.float32)


def _shading(rng: np.random.Generator) -> ImageF32:
    """Light that falls off across the thing: gain around 1, (256, 256)."""
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.35)
    ramp = np.linspace(-1, 1, SIZE_PX, dtype=np.float32)
    across = ramp[None, :] * math.cos(angle) + ramp[:, None] * math.sin(angle)
    return np.asarray(1 + slope * across, dtype=np.float32)


def _shadow(rng: np.random.Generator, coverage: ImageF32) -> ImageF32:
    """How much light a soft shadow beside the thing takes: (256, 256) in [0, 0.45]."""
    dx, dy = rng.uniform(-6, 6, 2)
    moved = cv2.warpAffine(coverage, np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32), (SIZE_PX, SIZE_PX))
    soft = cv2.GaussianBlur(moved, (0, 0), rng.uniform(1.5, 5.0))
    return np.asarray(soft * np.float32(rng.uniform(0.15, 0.45)), dtype=np.float32)


@dataclass(frozen=True)
class Pool:
    """Many examples in memory. images_nhwc_u8: (N, 256, 256, 3); labels_nhw: (N, 256, 256), as `Example.labels_hw`."""

    images_nhwc_u8: NDArray[np.uint8]
    labels_nhw: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images_nhwc_u8)


def make_pool(seed: int, count: int) -> Pool:
    """`count` training pictures, scenes and pasted things in turn; a picture without any object is left out."""
    images = np.zeros((count, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    labels = np.zeros((count, SIZE_PX, SIZE_PX), dtype=np.uint8)
    filled = 0
    for index in range(count):
        example = make_example(KINDS[index % 2], seed, index // 2, held_out=False)
        if example.labels_hw.any():
            images[filled], labels[filled] = example.image_hwc_u8, example.labels_hw
            filled += 1
    return Pool(images[:filled], labels[:filled])
