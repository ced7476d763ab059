"""One plain function per editing operation: each paints inside a mask with a border one pixel soft, and nowhere else.

Every function takes an image (HWC uint8 RGB) and a mask (H, W, bool) of the same size and returns
`(image, region)`: the edited image and every pixel that the edit meant to change, old place and new.
What lies more than 2 px outside `region` is the input, byte for byte.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.figures import lettering, shape_in_box, texture_pattern
from pipeline.editors.shapes import ImageF32
from runtime.images import ImageU8
from runtime.masks import MaskBool, mask_box
from schemas.geometry import Box

Painted = tuple[ImageU8, MaskBool]
Lab = tuple[float, float, float]

_INPAINT_SIDE_PX = 72
_INPAINT_RADIUS_PX = 3
_SETTLING_STEPS = 24
#: What lies this near to a thing (share of the image's side) is not taken for its surroundings: rim and shadow.
_RIM_SHARE = 0.014
_SHADING_KEPT = 0.8
_PATTERN_LIGHTNESS = 27.0
#: Sigmas of `blur` are given at this longest side and scale with the image.
BLUR_REFERENCE_PX = 256


def to_lab(image: ImageU8) -> ImageF32:
    """CIE Lab of an RGB image: (H, W, 3) float32, L 0..100."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab), dtype=np.float32)


def from_lab(lab: ImageF32) -> ImageF32:
    """RGB in 0..255, float32, of a Lab image; colours out of gamut are clipped."""
    rgb = cv2.cvtColor(np.asarray(lab, dtype=np.float32), cv2.COLOR_Lab2RGB)
    return np.asarray(np.clip(rgb, 0, 1) * np.float32(255), dtype=np.float32)


def soft(mask: MaskBool) -> ImageF32:
    """`mask` as opacity with a border about one pixel soft: (H, W) float32; 0 from 3 px outside on."""
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 0.8), dtype=np.float32)


def compose(image: ImageU8, painted: NDArray[np.float32] | ImageU8, opacity: ImageF32) -> ImageU8:
    """`painted` over `image` with `opacity` (H, W); exactly `image` where the opacity is 0."""
    weight = opacity[..., None]
    mixed = image * (1 - weight) + painted * weight
    return np.where(weight > 0, np.clip(mixed + 0.5, 0, 255), image).astype(np.uint8)


def mean_lab(image: ImageU8, mask: MaskBool) -> Lab:
    """Mean CIE Lab colour of `image` inside `mask`."""
    lightness, a, b = to_lab(image)[mask].mean(axis=0).tolist()
    return lightness, a, b


def recolour(image: ImageU8, mask: MaskBool, colour: Lab) -> Painted:
    """Gives the region the mean colour `colour` (CIE Lab) and keeps its shading; black, white and grey as well."""
    lab = to_lab(image)
    lightness = colour[0] + _SHADING_KEPT * (lab[..., 0] - float(lab[..., 0][mask].mean()))
    # Light and dark ends hold less chroma: without this a shaded edge turns into a pure, glowing colour.
    room = np.clip(np.minimum(lightness, 100 - lightness) / max(min(colour[0], 100 - colour[0]), 1.0), 0, 1) ** 0.5
    painted = np.stack([np.clip(lightness, 3, 98), colour[1] * room, colour[2] * room], axis=-1)
    return compose(image, from_lab(painted), soft(mask)), mask


def remove(image: ImageU8, mask: MaskBool) -> Painted:
    """Fills the region from its surroundings."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    wider = cv2.dilate(mask.astype(np.uint8), kernel)
    # The thing's own soft rim lies just outside its mask: it goes, too, but nothing further than 2 px.
    opacity = np.maximum(soft(wider.astype(np.bool_)) * cv2.dilate(wider, kernel), mask)
    return compose(image, fill(image, mask), np.asarray(opacity, dtype=np.float32)), mask


def replace(image: ImageU8, mask: MaskBool, shape: str, colour: Lab) -> Painted:
    """Takes the thing away and puts `shape` in `colour` (CIE Lab) into its box."""
    box = mask_box(mask)
    if box is None:
        return image, mask
    coverage = shape_in_box(shape, box, *mask.shape)
    return compose(remove(image, mask)[0], _solid(coverage, box, colour), coverage), mask | (coverage >= 0.5)


def insert(image: ImageU8, box: Box, shape: str, colour: Lab) -> Painted:
    """Puts `shape` in `colour` (CIE Lab) into `box`."""
    coverage = shape_in_box(shape, box, image.shape[0], image.shape[1])
    return compose(image, _solid(coverage, box, colour), coverage), coverage >= 0.5


def paste(image: ImageU8, box: Box, thing: ImageU8, thing_mask: MaskBool) -> Painted:
    """Puts the masked pixels of another image as large as fits, whole and undistorted, into the middle of `box`."""
    inner = mask_box(thing_mask)
    if inner is None:
        return image, np.zeros(image.shape[:2], dtype=np.bool_)
    wide, high = inner[2] - inner[0], inner[3] - inner[1]
    scale = min((box[2] - box[0]) / wide, (box[3] - box[1]) / high)
    w, h = max(1, min(round(wide * scale), box[2] - box[0])), max(1, min(round(high * scale), box[3] - box[1]))
    x, y = (box[0] + box[2] - w) // 2, (box[1] + box[3] - h) // 2
    return _place(image, thing, thing_mask, inner, (x, y, x + w, y + h))


def texture(image: ImageU8, mask: MaskBool, pattern: str, phase: int) -> Painted:
    """Lays a light-and-dark `pattern` on the region in its own hue, faintly keeping its shading."""
    box = mask_box(mask)
    if box is None:
        return image, mask
    lab = to_lab(image)
    mean = lab[mask].mean(axis=0)
    middle = float(np.clip(mean[0], 38, 68))
    wave = texture_pattern(pattern, box, mask.shape[0], mask.shape[1], phase)
    lightness = np.clip(middle + _PATTERN_LIGHTNESS * wave + 0.3 * (lab[..., 0] - mean[0]), 3, 98)
    chroma = 1.15 - 0.25 * np.abs(wave)
    painted = np.stack([lightness, mean[1] * chroma, mean[2] * chroma], axis=-1)
    return compose(image, from_lab(painted), soft(mask)), mask


def blur(image: ImageU8, mask: MaskBool, sigma_px: float) -> Painted:
    """Blurs the region with its own pixels alone, so that no colour comes in from outside. sigma_px: at 256 px."""
    sigma = max(0.3, sigma_px * max(mask.shape) / BLUR_REFERENCE_PX)
    inside = mask.astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma)[..., None]
    summed = cv2.GaussianBlur(image.astype(np.float32) * inside[..., None], (0, 0), sigma)
    painted = np.where(weight > 1e-3, summed / np.maximum(weight, 1e-3), image)
    return compose(image, painted.astype(np.float32), soft(mask)), mask


def relight(image: ImageU8, mask: MaskBool, gain: float) -> Painted:
    """Multiplies the region's light by `gain`; bright parts roll off instead of clipping."""
    lit = image.astype(np.float32) * np.float32(gain / 255)
    if gain > 1:
        knee = np.float32(0.7)
        lit = np.where(lit > knee, 1 - (1 - knee) * np.exp(-(lit - knee) / (1 - knee)), lit)
    return compose(image, np.asarray(lit * np.float32(255), dtype=np.float32), soft(mask)), mask


def relocate(image: ImageU8, mask: MaskBool, destination: Box) -> Painted:
    """Takes the thing out of its old place and puts it, scaled to fill, into `destination` (move and resize)."""
    inner = mask_box(mask)
    if inner is None:
        return image, mask
    emptied = remove(image, mask)[0]
    placed, there = _place(emptied, image, mask, inner, destination)
    return placed, mask | there


def text(image: ImageU8, mask: MaskBool, words: str, colour: Lab) -> Painted:
    """Writes `words` in `colour` (CIE Lab) with a thin rim that sets it off, as large as fits; the region is `mask`."""
    box = mask_box(mask)
    if box is None:
        return image, mask
    letters, outline = lettering(words, box, *mask.shape)
    rim: Lab = (96.0, 0.0, 0.0) if colour[0] < 55 else (8.0, 0.0, 0.0)
    opacity = soft(mask)
    rimmed = compose(image, _flat(rim, mask.shape), outline * opacity)
    return compose(rimmed, _flat(colour, mask.shape), letters * opacity), mask


def fill(image: ImageU8, mask: MaskBool) -> ImageF32:
    """`image` with the region filled from what surrounds it (inpainted small, then grained): HWC float32, 0..255."""
    filled = image.astype(np.float32)
    box = mask_box(mask)
    if box is None or mask.all():
        return filled
    margin = max(8, (box[2] - box[0] + box[3] - box[1]) // 6)
    ys = slice(max(0, box[1] - margin), min(mask.shape[0], box[3] + margin))
    xs = slice(max(0, box[0] - margin), min(mask.shape[1], box[2] + margin))
    window = image[ys, xs]
    reach = 2 * max(2, round(max(mask.shape) * _RIM_SHARE)) + 1
    wider = cv2.dilate(mask[ys, xs].astype(np.uint8), np.ones((reach, reach), dtype=np.uint8))
    hole = np.asarray(wider, dtype=np.uint8)
    if hole.all():
        return filled
    filled[ys, xs] = np.add(_inpaint(window, hole), _grain(window, hole))
    return filled


def _inpaint(window: ImageU8, hole: NDArray[np.uint8]) -> ImageF32:
    """The window with its hole filled; on a smaller copy where the window is large, which is smoother and quicker."""
    height, width = hole.shape
    scale = min(1.0, _INPAINT_SIDE_PX / max(height, width))
    if scale == 1.0:
        return _settled(cv2.inpaint(window, hole, _INPAINT_RADIUS_PX, cv2.INPAINT_TELEA), hole)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    outside = (1 - hole).astype(np.float32)
    weight = cv2.resize(outside, size, interpolation=cv2.INTER_AREA)
    summed = cv2.resize(window * outside[..., None], size, interpolation=cv2.INTER_AREA)
    known = weight > 0.05
    small = np.where(known[..., None], summed / np.maximum(weight, 0.05)[..., None], 0).astype(np.uint8)
    unknown = np.asarray(~known, dtype=np.uint8)
    whole = _settled(cv2.inpaint(small, unknown, _INPAINT_RADIUS_PX, cv2.INPAINT_TELEA), unknown)
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _settled(inpainted: NDArray[np.generic], hole: NDArray[np.uint8]) -> ImageF32:
    """The filled hole with the streaks of inpainting diffused away; its border stays tied to the surroundings."""
    settled = inpainted.astype(np.float32)
    inside = hole.astype(bool)
    for _ in range(_SETTLING_STEPS):
        settled[inside] = cv2.blur(settled, (5, 5))[inside]
    return settled


def _grain(window: ImageU8, hole: NDArray[np.uint8]) -> ImageF32:
    """Grain as strong as the surroundings' finest detail: a filled place is not smoother than the photograph."""
    grey = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))[hole == 0]
    spread = min(5.0, 1.2 * float(np.median(detail)))
    rng = np.random.default_rng(hole.shape[0] * 65_537 + hole.shape[1])
    grain = cv2.GaussianBlur(rng.standard_normal(hole.shape, dtype=np.float32), (0, 0), 0.7) * (2.2 * spread)
    return np.asarray(grain[..., None], dtype=np.float32)


def _place(image: ImageU8, thing: ImageU8, thing_mask: MaskBool, inner: Box, box: Box) -> Painted:
    """Scales the part `inner` of `thing` to `box` of `image` and lays it there through its mask."""
    height, width = image.shape[:2]
    size = (box[2] - box[0], box[3] - box[1])
    cut = (slice(inner[1], inner[3]), slice(inner[0], inner[2]))
    shrinks = size[0] < inner[2] - inner[0] or size[1] < inner[3] - inner[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    pixels = cv2.resize(np.ascontiguousarray(thing[cut]), size, interpolation=way)
    cover = cv2.resize(thing_mask[cut].astype(np.float32), size, interpolation=way)
    x1, y1, x2, y2 = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    opacity = np.zeros((height, width), dtype=np.float32)
    painted = image.astype(np.float32)
    if x2 > x1 and y2 > y1:
        part = (slice(y1 - box[1], y2 - box[1]), slice(x1 - box[0], x2 - box[0]))
        opacity[y1:y2, x1:x2] = cover[part]
        painted[y1:y2, x1:x2] = pixels[part]
    there = opacity >= 0.5
    # Soft, but never beyond the thing's own pixels: what lies next to it in its old place must not come along.
    return compose(image, painted, np.minimum(soft(there), opacity)), there


def _solid(coverage: ImageF32, box: Box, colour: Lab) -> ImageF32:
    """A body in `colour`, lit from the upper left and darker at its rim, so that it does not look cut from paper."""
    height, width = coverage.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = ((xs - box[0]) / (box[2] - box[0]) + (ys - box[1]) / (box[3] - box[1]) - 1.0) * 0.5
    radius = max(1.0, min(box[2] - box[0], box[3] - box[1]) / 14)
    rim = cv2.GaussianBlur(coverage, (0, 0), radius)
    lightness = colour[0] - 12 * np.clip(slope, -1, 1) - 22 * np.clip(0.92 - rim, 0, 0.5)
    lab = np.stack([np.clip(lightness, 4, 97), np.full_like(rim, colour[1]), np.full_like(rim, colour[2])], axis=-1)
    return from_lab(lab)


def _flat(colour: Lab, shape: tuple[int, ...]) -> ImageF32:
    rgb = from_lab(np.array([[colour]], dtype=np.float32))[0, 0]
    return np.broadcast_to(rgb, (shape[0], shape[1], 3))
