"""The `difference` segmenter: which pixels of an edited image were edited, seen against its source.

Three things that are no edit are taken out first: a shift of the whole image by a few pixels, a drift of its colours
(an affine map, fitted on the pixels that agree with it), and noise as compression makes it (thresholds that rise
with the residual of the unchanged part and with local contrast). What is left is looked at in three ways: colour pixel
by pixel, smoothed colour, and local contrast, which sees blur and texture where the mean colour stays.

It does not undo rotation, scaling or lens distortion: those count as change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.images import ImageU8, MaskBool

Float32 = NDArray[np.float32]

#: What is finer than this is detail by which images are brought together.
DETAIL_SIGMA_PX = 3.0
#: A difference of detail beyond this is an edit, not a misalignment of a pixel's part.
OUTLIER_LEVELS = 24.0
#: What a drift multiplies colours with, least and most; another map means another image.
COLOUR_GAINS = (0.5, 1.8)
#: Local contrast of the textured part that differs by a smaller share is no blur of the whole image.
SHARPNESS_TOLERANCE = 0.06
BLUR_SIGMAS_PX = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2)
#: Compression rings within its blocks.
RINGING_PX = 8


@dataclass(frozen=True)
class DifferenceSettings:
    """Thresholds in levels (0..255) of Y'CbCr, in which compression noise is even; lengths in pixels of the image."""

    max_shift_px: int = 3
    """A larger shift of the whole image is taken as content, not as misalignment."""
    pixel_strong: float = 26.0
    """Lightness difference of a pixel, beyond what its neighbours explain, that begins a change."""
    pixel_weak: float = 5.0
    """The same, carrying a change on from its beginning."""
    smooth_strong: float = 6.8
    """Smoothed lightness difference that begins a change: noise has averaged out."""
    smooth_weak: float = 2.7
    """The same, carrying on."""
    coarse_strong: float = 8.0
    """The same over `coarse_sigma_px`: faint changes of large parts."""
    coarse_weak: float = 0.8
    """The same, carrying on."""
    chroma_factor: float = 1.05
    """Thresholds of smoothed chroma over those of smoothed lightness; chroma is what compression harms most."""
    contrast_strong: float = 11.5
    """Difference of local contrast (standard deviation of lightness) that begins a change: texture or blur."""
    contrast_weak: float = 1.2
    """The same, carrying on."""
    smooth_sigma_px: float = 1.0
    """Scale of smoothing."""
    coarse_sigma_px: float = 1.8
    """The coarser scale of smoothing."""
    contrast_sigma_px: float = 0.9
    """Scale over which local contrast is taken."""
    halo_share: float = 0.35
    """A smoothed difference counts down to this share of the largest within three scales: below it is its halo."""
    coarse_halo_share: float = 0.46
    """The same on the coarser scale."""
    ringing_share: float = 0.085
    """A pixel difference counts down to this share of the largest within a compression block (8 px)."""
    neighbour_share: float = 0.34
    """How far towards the range of its 3x3 neighbours a pixel may stray: what a half-pixel shift does."""
    noise_factor: float = 6.5
    """Thresholds never fall below this many times the noise of the unchanged part."""
    max_noise: float = 2.5
    """Noise (levels) beyond this is not believed: then the image has changed all over."""
    contrast_tolerance: float = 0.26
    """Thresholds rise by this share of the local contrast: misalignment and compression err most there."""
    close_px: float = 2.3
    """Gaps inside a change up to twice this width are closed."""
    min_area_share: float = 0.0009
    """Smaller islands, as a share of the image's area, are left out."""
    fill_hole_share: float = 0.0056
    """Smaller holes, as a share of the image's area, are filled."""


DEFAULT = DifferenceSettings()


@dataclass(frozen=True)
class Comparison:
    """Source and edited image brought together. shift_px: (x, y) by which the source was moved.

    moved: the source aligned; fitted: aligned and colour-fitted; edited: as it is, but that the sharper of `fitted` and
    `edited` is blurred where one image is softer all over; all (H, W, 3) Y'CrCb, levels 0..255.
    drift: mean distance (levels) by which the fitted colour map moves the source's colours.
    """

    moved: Float32
    fitted: Float32
    edited: Float32
    shift_px: tuple[float, float]
    drift: float

    def distance(self) -> Float32:
        """Distance (H, W), in levels, of the edited image from the aligned source, drift of colour included."""
        return _norm(self.moved - self.edited)


class DifferenceSegmenter:
    """A `pipeline.backends.Segmenter` that compares pixels and needs no weights."""

    name = "difference"
    revision = "1"

    def __init__(self, settings: DifferenceSettings = DEFAULT) -> None:
        self.settings = settings

    def changed(self, source: ImageU8, edited: ImageU8) -> MaskBool:
        """Mask (H, W) in the edited frame of the pixels that were edited.

        Raises: ValueError where the shapes differ.
        """
        return changed_mask(compare(source, edited, self.settings), self.settings)


def compare(source: ImageU8, edited: ImageU8, settings: DifferenceSettings = DEFAULT) -> Comparison:
    """Both images in Y'CrCb, the source moved and coloured as the edited image's unchanged part is.

    Raises: ValueError where the shapes differ.
    """
    if source.shape != edited.shape:
        raise ValueError(f"source is {source.shape}, edited {edited.shape}: resize one of them first")
    source_rgb, edited_rgb = source.astype(np.float32), edited.astype(np.float32)
    after = _levels(edited_rgb)
    shift = _shift_px(_levels(source_rgb)[..., 0], after[..., 0], settings.max_shift_px)
    moved_rgb = _moved(source_rgb, shift)
    colour_map = _fit_colours(moved_rgb, edited_rgb)
    moved = _levels(moved_rgb)
    fitted = _levels(np.clip(cv2.transform(moved_rgb, colour_map), 0, 255, dtype=np.float32))
    drift = float(_norm(fitted - moved).mean())
    return Comparison(moved, *_equally_sharp(fitted, after), shift, drift)


def changed_mask(pair: Comparison, settings: DifferenceSettings = DEFAULT) -> MaskBool:
    """The mask (H, W) of what differs in a comparison."""
    difference = pair.fitted - pair.edited
    before = _local_contrast(pair.fitted[..., 0], settings.contrast_sigma_px)
    after = _local_contrast(pair.edited[..., 0], settings.contrast_sigma_px)
    tolerance = settings.contrast_tolerance * np.minimum(before, after)
    strong = np.zeros(before.shape, dtype=np.bool_)
    weak = np.zeros(before.shape, dtype=np.bool_)
    for evidence, high, low, halo in _evidence(pair, difference, np.abs(before - after), settings):
        floor = max(1.0, settings.noise_factor * min(_noise(evidence), settings.max_noise) / low)
        strong |= evidence > high * floor + tolerance
        weak |= evidence > np.maximum(low * floor + tolerance, halo)
    return _cleaned(_hysteresis(strong, weak | strong), settings)


_Evidence = tuple[Float32, float, float, Float32]


def _evidence(
    pair: Comparison, difference: Float32, contrast: Float32, settings: DifferenceSettings
) -> Iterator[_Evidence]:
    """(difference (H, W), threshold to begin, threshold to carry on, halo (H, W)) of each way to look."""
    pixel = _pixel_difference(pair, settings.neighbour_share)
    yield pixel, settings.pixel_strong, settings.pixel_weak, settings.ringing_share * _largest(pixel, RINGING_PX)
    scales = (
        (settings.smooth_sigma_px, settings.smooth_strong, settings.smooth_weak, settings.halo_share),
        (settings.coarse_sigma_px, settings.coarse_strong, settings.coarse_weak, settings.coarse_halo_share),
    )
    for sigma_px, strong, weak, share in scales:
        smooth = np.abs(_blurred(difference, sigma_px))
        for values, factor in ((smooth[..., 0], 1.0), (_norm(smooth[..., 1:]), settings.chroma_factor)):
            yield values, strong * factor, weak * factor, share * _largest(values, 3 * sigma_px)
    halo = settings.halo_share * _largest(contrast, 3 * settings.contrast_sigma_px)
    yield contrast, settings.contrast_strong, settings.contrast_weak, halo


def _largest(values: Float32, radius_px: float) -> Float32:
    """The largest of `values` within `radius_px` (a square) of each pixel."""
    side = 2 * round(radius_px) + 1
    return cast(Float32, cv2.dilate(values, np.ones((side, side), dtype=np.uint8)))


def _levels(rgb: Float32) -> Float32:
    """Y'CrCb (H, W, 3) of RGB in 0..255: levels, chroma about 0.5."""
    return cast(Float32, cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))


def _norm(difference: Float32) -> Float32:
    return cast(Float32, np.sqrt(np.einsum("hwc,hwc->hw", difference, difference)))


def _blurred(values: Float32, sigma_px: float) -> Float32:
    return cast(Float32, cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))


def _local_contrast(lightness: Float32, sigma_px: float) -> Float32:
    """Local standard deviation of L (H, W), in L units."""
    mean = _blurred(lightness, sigma_px)
    return cast(Float32, np.sqrt(np.maximum(_blurred(lightness * lightness, sigma_px) - mean * mean, 0)))


def _shift_px(source: Float32, edited: Float32, max_shift_px: int) -> tuple[float, float]:
    """(x, y) by which the source's lightness lies elsewhere in the edited image; (0, 0) where moving does not help.

    Whole pixels by search, then parts of pixels by Gauss-Newton; both on what is finer than a few pixels, so that drift
    does not count, and with differences cut off, so that edits do not.
    """
    before, after = (values - _blurred(values, DETAIL_SIGMA_PX) for values in (source, edited))
    margin = max_shift_px
    if min(source.shape) < 4 * margin:
        return 0.0, 0.0
    steps = [(x, y) for y in range(-margin, margin + 1) for x in range(-margin, margin + 1)]
    costs = {step: _misfit(before, after, step, margin) for step in steps}
    best = min(steps, key=lambda step: (costs[step], abs(step[0]) + abs(step[1]), step))
    refined = _refined_shift(before, after, best)
    if max(abs(refined[0] - best[0]), abs(refined[1] - best[1])) > 1 or max(map(abs, refined)) < 0.04:
        refined = (float(best[0]), float(best[1]))
    moved, still = (_cut_off(_moved(before, shift) - after).mean() for shift in (refined, (0.0, 0.0)))
    return refined if moved < 0.98 * still else (0.0, 0.0)


def _cut_off(difference: Float32) -> Float32:
    return cast(Float32, np.minimum(np.abs(difference), np.float32(OUTLIER_LEVELS)))


def _misfit(before: Float32, after: Float32, step: tuple[int, int], margin: int) -> float:
    """Mean cut-off difference, every other pixel, with `before` moved by whole pixels."""
    (height, width), (x, y) = after.shape, step
    there = after[margin : height - margin : 2, margin : width - margin : 2]
    here = before[margin - y : height - margin - y : 2, margin - x : width - margin - x : 2]
    return float(_cut_off(there - here).mean())


def _refined_shift(before: Float32, after: Float32, start: tuple[int, int]) -> tuple[float, float]:
    """A shift near `start` by Gauss-Newton on the pixels that agree."""
    x, y = float(start[0]), float(start[1])
    for _ in range(4):
        moved = _moved(before, (x, y))
        residual = moved - after
        gradient_x, gradient_y = (
            cv2.Sobel(moved, cv2.CV_32F, *order, ksize=3, scale=0.125) for order in ((1, 0), (0, 1))
        )
        weight = np.abs(residual) < OUTLIER_LEVELS
        gx, gy, r = gradient_x[weight], gradient_y[weight], residual[weight]
        normal = np.array([[gx @ gx, gx @ gy], [gx @ gy, gy @ gy]], dtype=np.float64) + 1e-3 * np.eye(2)
        step = np.linalg.solve(normal, np.array([gx @ r, gy @ r], dtype=np.float64))
        x, y = x + float(step[0]), y + float(step[1])
        if float(np.abs(step).max()) < 0.02:
            break
    return x, y


def _moved(image: Float32, shift_px: tuple[float, float]) -> Float32:
    """`image` moved by (x, y) pixels, its border repeated."""
    if shift_px == (0.0, 0.0):
        return image
    matrix = np.array([[1, 0, shift_px[0]], [0, 1, shift_px[1]]], dtype=np.float32)
    size = (image.shape[1], image.shape[0])
    moved: Any = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast(Float32, moved)


def _fit_colours(source: Float32, edited: Float32) -> NDArray[np.float64]:
    """The colour map (3, 4), matrix and offset, from the source's RGB to the edited RGB of the unchanged pixels.

    Iteratively reweighted least squares (Geman-McClure weights) on a small copy, without clipped pixels. The identity
    where the map is none of a drift: then the images have little in common.
    """
    x, y = (_small_colours(image) for image in (source, edited))
    usable = ((np.minimum(x, y) > 2) & (np.maximum(x, y) < 253)).all(axis=1)
    if usable.mean() > 0.2:
        x, y = x[usable], y[usable]
    matrix, offset = np.eye(3), np.median(y - x, axis=0)
    scale = 20.0
    for _ in range(12):
        residual = np.linalg.norm(x @ matrix + offset - y, axis=1)
        scale = max(2.0, min(scale, 2.0 * float(np.median(residual))))
        matrix, offset = _ridge_affine(x, y, 1 / np.square(1 + np.square(residual / scale)))
    strengths = np.linalg.svd(matrix, compute_uv=False)
    if strengths.min() < COLOUR_GAINS[0] or strengths.max() > COLOUR_GAINS[1]:
        return np.eye(3, 4)
    return np.column_stack([matrix.T, offset])


def _equally_sharp(fitted: Float32, edited: Float32) -> tuple[Float32, Float32]:
    """Both images, the sharper one blurred to the other's sharpness where they differ as wholes: an encoder's doing."""
    before, after = (_local_contrast(image[..., 0], 1.0) for image in (fitted, edited))
    textured = before + after > max(8.0, float(np.quantile(before + after, 0.6)))
    if textured.mean() < 0.02:
        return fitted, edited
    ratio = float(np.median(after[textured] / np.maximum(before[textured], 0.5)))
    if abs(ratio - 1) < SHARPNESS_TOLERANCE:
        return fitted, edited
    sharp, soft = (fitted, edited) if ratio < 1 else (edited, fitted)
    blurred = [sharp, *(_blurred(sharp, sigma_px) for sigma_px in BLUR_SIGMAS_PX)]
    nearest = min(blurred, key=lambda image: float(_cut_off(image[..., 0] - soft[..., 0]).mean()))
    return (nearest, edited) if ratio < 1 else (fitted, nearest)


def _small_colours(image: Float32) -> NDArray[np.float64]:
    """The colours (4096, 3) of a 64 x 64 copy."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return cast(NDArray[np.float64], small.reshape(-1, 3).astype(np.float64))


def _ridge_affine(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted affine map from x to y (both (N, 3)), its matrix drawn to the identity where colours vary little."""
    total = weight.sum() + 1e-9
    x_mean, y_mean = (weight @ x) / total, (weight @ y) / total
    x_centred, y_centred = x - x_mean, y - y_mean
    ridge = 50.0 * np.eye(3)
    left = (x_centred * weight[:, None]).T @ x_centred / total + ridge
    right = (x_centred * weight[:, None]).T @ y_centred / total + ridge
    matrix = np.linalg.solve(left, right)
    return matrix, y_mean - x_mean @ matrix


def _pixel_difference(pair: Comparison, neighbour_share: float) -> Float32:
    """Lightness difference (H, W) beyond the range of the other image's 3x3 pixels around, seen from both sides."""
    before, after = pair.fitted[..., 0], pair.edited[..., 0]
    return np.maximum(_outside_range(after, before, neighbour_share), _outside_range(before, after, neighbour_share))


def _outside_range(image: Float32, other: Float32, share: float) -> Float32:
    kernel = np.ones((3, 3), dtype=np.uint8)
    low = other + share * (cv2.erode(other, kernel) - other)
    high = other + share * (cv2.dilate(other, kernel) - other)
    return cast(Float32, np.maximum(np.maximum(low - image, image - high), 0))


def _noise(feature: Float32) -> float:
    """The noise in a difference feature: from its lower half, so that up to half the image may have changed."""
    return float(np.quantile(feature[::2, ::2], 0.4)) / 0.52


def _hysteresis(strong: MaskBool, weak: MaskBool) -> MaskBool:
    """The connected parts of `weak` that hold a pixel of `strong`."""
    count, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, dtype=np.bool_)
    kept[labels[strong]] = True
    kept[0] = False
    return cast(MaskBool, kept[labels])


def _cleaned(mask: MaskBool, settings: DifferenceSettings) -> MaskBool:
    """`mask` with pinholes closed, small holes filled and small islands removed."""
    side = 2 * round(settings.close_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(np.bool_)
    filled = ~_without_small(~closed, settings.fill_hole_share * mask.size)
    return _without_small(filled, settings.min_area_share * mask.size)


def _without_small(mask: MaskBool, min_area_px: float) -> MaskBool:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area_px
    kept[0] = False
    return cast(MaskBool, kept[labels])
