"""Procedural edits with known truth, for benchmarks of what works on pixels: one operation on one thing of one image.

Half of the images are procedural scenes, half are windows of photographs that scikit-image and scikit-learn ship; the
things are the scene's own objects, or what GrabCut finds in a random box. `tune` and `test` share neither photographs
nor scene seeds: thresholds are chosen on the one and measured on the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import skimage
import sklearn.datasets
from numpy.random import Generator
from PIL import Image

from pipeline.editors import operations
from pipeline.editors.figures import shape_in_box
from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab
from pipeline.editors.target_mask import thing_in_box
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, decode_image
from runtime.masks import MaskBool, mask_box
from schemas.geometry import Box
from schemas.record import short_hash

Part = Literal["tune", "test"]

PHOTOS: dict[Part, tuple[str, ...]] = {
    "tune": ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "coins.png",
             "china.jpg", "flower.jpg"),
    "test": ("motorcycle_left.png", "retina.jpg", "moon.png", "hubble_deep_field.jpg", "ihc.png", "clock_motion.png"),
}  # fmt: skip
SCENE_SEEDS: dict[Part, int] = {"tune": 101, "test": 202}
TEXTURES = ("stripes", "checker", "dots", "waves", "bricks", "noise")
WORDS = ("HELLO", "SALE", "OPEN", "42")
#: What each operation's strength is drawn from.
STRENGTHS = {
    "recolour": "to a named colour at least 40 Delta E from the thing's mean",
    "remove": "filled from the surroundings",
    "replace": "by a shape in a named colour at least 40 Delta E from the thing's mean",
    "insert": "a shape in a named colour at least 40 Delta E from the place's mean",
    "texture": "one of six patterns, about 27 L up and down",
    "blur": "sigma 5..9 px at 256 px, on things with a pattern or photographs",
    "relight": "gain 0.42..0.62 or 1.5..1.85, whichever the thing's brightness has room for",
    "move": "to another place, same size",
    "resize": "to 0.5..0.68 or 1.4..1.65 of its size",
    "text": "1 of 4 words, black or white, as large as fits",
}
#: A pixel changed visibly above this Delta E (CIE76): the just noticeable difference.
VISIBLE_DELTA_E = 2.3
#: Gaps in the visible change up to twice this radius belong to it (px at 256 px).
TRUTH_CLOSE_PX = 3
#: A smaller visible change (share of the image) is no test case.
MIN_TRUTH_SHARE = 0.003


@dataclass(frozen=True)
class EditCase:
    """One edit. source, clean: HWC uint8 RGB, before and after, no noise. truth: mask (H, W), see `true_mask`."""

    name: str
    operation: str
    source: ImageU8
    clean: ImageU8
    truth: MaskBool


def edit_cases(part: Part, operation: str, count: int, size_px: int = 256) -> Iterator[EditCase]:
    """`count` cases of one operation, by turns on a scene and on a photograph; edits that nobody would see left out."""
    made = index = 0
    while made < count:
        name = f"{part}-{operation}-{index}"
        case = _try_case(part, operation, index, name, size_px)
        index += 1
        if case is not None and case.truth.mean() >= MIN_TRUTH_SHARE:
            made += 1
            yield case


def true_mask(source: ImageU8, clean: ImageU8, region: MaskBool) -> MaskBool:
    """Mask (H, W) of what an edit changed visibly: Delta E above 2.3, gaps up to 6 px at 256 px closed, in its region.

    region: every pixel that the operation meant to change (old and new place); 2 px around it count, for soft borders.
    """
    visible = np.linalg.norm(operations.to_lab(source) - operations.to_lab(clean), axis=2) > VISIBLE_DELTA_E
    side = 2 * max(1, round(TRUTH_CLOSE_PX * max(region.shape) / 256)) + 1
    kernel: Any = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(visible.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    return np.asarray(
        (closed & cv2.dilate(region.astype(np.uint8), np.ones((5, 5), dtype=np.uint8))) > 0, dtype=np.bool_
    )


def shifted(image: Any, x_px: float, y_px: float) -> Any:
    """An image (uint8) or mask (bool) moved by (x, y) pixels, its border repeated."""
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], dtype=np.float32)
    moved = cv2.warpAffine(
        image.astype(np.uint8), matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved.astype(image.dtype)


def jpeg(image: ImageU8, quality: int) -> ImageU8:
    """`image` after JPEG with the usual chroma subsampling."""
    buffer = BytesIO()
    Image.fromarray(image, "RGB").save(buffer, "JPEG", quality=quality)
    return decode_image(buffer.getvalue())


def case_rng(*name: str | int) -> Generator:
    """A generator of its own for each name."""
    return np.random.default_rng(int(short_hash(*name), 16))


@lru_cache(maxsize=32)
def photo(name: str) -> ImageU8:
    """A photograph that scikit-image or scikit-learn ships, as RGB."""
    folder = Path(skimage.__file__).parent / "data"
    path = folder / name
    if not path.exists():
        path = Path(sklearn.datasets.__file__).parent / "images" / name
    return decode_image(path.read_bytes())


def photo_window(name: str, rng: Generator, size_px: int) -> ImageU8:
    """A random square window of a photograph, 60..100 % of its shorter side, at `size_px`."""
    image = photo(name)
    shorter = min(image.shape[:2])
    side = int(shorter * rng.uniform(0.6, 1.0))
    y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    window = Image.fromarray(image[y : y + side, x : x + side], "RGB")
    return np.array(window.resize((size_px, size_px), Image.Resampling.LANCZOS))


def _try_case(part: Part, operation: str, index: int, name: str, size_px: int) -> EditCase | None:
    rng = case_rng("edit-case", name)
    if index % 2 == 0:
        scene = render_scene(SCENE_SEEDS[part], index // 2, size_px)
        things = [thing for thing in scene.objects if operation != "blur" or thing.texture]
        if not things:
            return None
        source, mask = scene.image_hwc_u8, things[int(rng.integers(len(things)))].mask_hw
    else:
        names = PHOTOS[part]
        source = photo_window(names[index // 2 % len(names)], rng, size_px)
        mask = thing_in_box(source, random_box(rng, size_px))
    edited = EDITS[operation](source, mask, rng)
    if edited is None:
        return None
    return EditCase(name, operation, source, edited[0], true_mask(source, *edited))


def random_box(rng: Generator, size_px: int) -> Box:
    """A box of 16..40 % of the image's side, inside the image."""
    width, height = (int(size_px * rng.uniform(0.16, 0.4)) for _ in range(2))
    x, y = int(rng.integers(4, size_px - width - 4)), int(rng.integers(4, size_px - height - 4))
    return x, y, x + width, y + height


Painted = operations.Painted | None


def _recolour(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    return operations.recolour(image, mask, _colour_apart(image, mask, rng))


def _remove(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    return operations.remove(image, mask)


def _replace(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    return operations.replace(image, mask, SHAPES[int(rng.integers(len(SHAPES)))], _colour_apart(image, mask, rng))


def _insert(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    box, shape = random_box(rng, image.shape[0]), SHAPES[int(rng.integers(len(SHAPES)))]
    place = shape_in_box(shape, box, *mask.shape) >= 0.5
    return operations.insert(image, box, shape, _colour_apart(image, place, rng))


def _texture(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    return operations.texture(image, mask, TEXTURES[int(rng.integers(len(TEXTURES)))], int(rng.integers(100)))


def _blur(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    return operations.blur(image, mask, float(rng.uniform(5, 9)))


def _relight(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    bright = float(np.percentile(image[mask], 90)) > 150
    return operations.relight(image, mask, float(rng.uniform(0.42, 0.62) if bright else rng.uniform(1.5, 1.85)))


def _move(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    box, size = mask_box(mask), image.shape[0]
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
    return operations.relocate(image, mask, (x, y, x + width, y + height))


def _resize(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    box, size = mask_box(mask), image.shape[0]
    if box is None:
        return None
    factor = float(rng.uniform(0.5, 0.68) if rng.random() < 0.5 else rng.uniform(1.4, 1.65))
    half = [max(2, (box[k + 2] - box[k]) * factor / 2) for k in (0, 1)]
    middle = [(box[k + 2] + box[k]) / 2 for k in (0, 1)]
    x1, y1 = (max(0, round(middle[k] - half[k])) for k in (0, 1))
    x2, y2 = (min(size, round(middle[k] + half[k])) for k in (0, 1))
    return operations.relocate(image, mask, (x1, y1, x2, y2))


def _text(image: ImageU8, mask: MaskBool, rng: Generator) -> Painted:
    colour = "white" if operations.mean_lab(image, mask)[0] < 60 else "black"
    return operations.text(image, mask, WORDS[int(rng.integers(len(WORDS)))], colour_lab(colour))


def _colour_apart(image: ImageU8, mask: MaskBool, rng: Generator) -> tuple[float, float, float]:
    mean = operations.mean_lab(image, mask)
    colours = [colour_lab(name) for name in COLOURS]
    apart = [lab for lab in colours if colour_distance(lab, mean) >= 40]
    return apart[int(rng.integers(len(apart)))]


EDITS: dict[str, Callable[[ImageU8, MaskBool, Generator], Painted]] = {
    "recolour": _recolour,
    "remove": _remove,
    "replace": _replace,
    "insert": _insert,
    "texture": _texture,
    "blur": _blur,
    "relight": _relight,
    "move": _move,
    "resize": _resize,
    "text": _text,
}
