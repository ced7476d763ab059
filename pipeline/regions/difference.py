"""The `difference` segmenter: which pixels of an edited image were edited, seen against its source.

Three things that are no edit are taken out first: a shift of the whole image by a few pixels, a drift of its colours
(an affine map, fitted on the pixels that agree with it), and noise as compression makes it (thresholds that rise
with the residual of the unchanged part and with local contrast). What is left is looked at in three ways: colour pixel
by pixel, smoothed colour, and local contrast, which sees blur and texture where the mean colour stays.

It does not undo rotation, scaling or lens distortion: those count as change.
"""

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.images import ImageU8, MaskBool

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class DifferenceSettings:
    """Thresholds in levels (0..255) of Y'CbCr, in which compression noise is even; lengths in pixels of the image."""

    max_shift_px: float = 4.0
    """A larger shift of the whole image is taken as content, not as misalignment."""
    pixel_strong: float = 22.0
    """Lightness difference of a pixel, beyond what its neighbours explain, that begins a change."""
    pixel_weak: float = 7.0
    """The same, carrying a change on from its beginning."""
    smooth_strong: float = 9.0
    """Smoothed lightness difference that begins a change: noise has averaged out."""
    smooth_weak: float = 4.5
    """The same, carrying on."""
    chroma_strong: float = 11.0
    """Smoothed chroma difference that begins a change; chroma is what compression blurs most."""
    chroma_weak: float = 5.5
    """The same, carrying on."""
    contrast_strong: float = 9.0
    """Difference of local contrast (standard deviation of lightness) that begins a change: texture or blur."""
    contrast_weak: float = 4.0
    """The same, carrying on."""
    smooth_sigma_px: float = 1.5
    """Scale of smoothing."""
    contrast_sigma_px: float = 1.5
    """Scale over which local contrast is taken."""
    halo_share: float = 0.35
    """A smoothed difference counts down to this share of the largest within three scales: below it is its halo."""
    neighbour_share: float = 0.6
    """How far towards the range of its 3x3 neighbours a pixel may stray: what a half-pixel shift does."""
    noise_factor: float = 5.0
    """Thresholds never fall below this many times the noise of the unchanged part."""
    max_noise: float = 8.0
    """Noise (levels) beyond this is not believed: then the image has changed all over."""
    contrast_tolerance: float = 0.12
    """Thresholds rise by this share of the local contrast: misalignment and compression err most there."""
    close_px: float = 2.0
    """Gaps inside a change up to twice this width are closed."""
    min_area_share: float = 0.0006
    """Smaller islands, as a share of the image's area, are left out."""
    fill_hole_share: float = 0.002
    """Smaller holes, as a share of the image's area, are filled."""


DEFAULT = DifferenceSettings()


@dataclass(frozen=True)
class Comparison:
    """Source and edited image brought together. shift_px: (x, y) by which the source was moved.

    moved: the source aligned; fitted: aligned and colour-fitted; edited: as it is; all (H, W, 3) Y'CrCb, levels 0..255.
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
    before, after = _levels(source), _levels(edited)
    shift = _shift_px(before[..., 0], after[..., 0], settings.max_shift_px)
    moved = _moved(before, shift)
    matrix, offset = _fit_colours(moved, after)
    fitted = cast(Float32, moved @ matrix + offset)
    return Comparison(moved, fitted, after, shift, float(_norm(fitted - moved).mean()))


def changed_mask(pair: Comparison, settings: DifferenceSettings = DEFAULT) -> MaskBool:
    """The mask (H, W) of what differs in a comparison."""
    smooth = np.abs(_blurred(pair.fitted - pair.edited, settings.smooth_sigma_px))
    before = _local_contrast(pair.fitted[..., 0], settings.contrast_sigma_px)
    after = _local_contrast(pair.edited[..., 0], settings.contrast_sigma_px)
    tolerance = settings.contrast_tolerance * np.minimum(before, after)
    evidence = (
        (_pixel_difference(pair, settings.neighbour_share), settings.pixel_strong, settings.pixel_weak, 0.0),
        (smooth[..., 0], settings.smooth_strong, settings.smooth_weak, settings.smooth_sigma_px),
        (_norm(smooth[..., 1:]), settings.chroma_strong, settings.chroma_weak, settings.smooth_sigma_px),
        (np.abs(before - after), settings.contrast_strong, settings.contrast_weak, settings.contrast_sigma_px),
    )
    strong = np.zeros(before.shape, dtype=np.bool_)
    weak = np.zeros(before.shape, dtype=np.bool_)
    for difference, high, low, sigma_px in evidence:
        floor = max(1.0, settings.noise_factor * min(_noise(difference), settings.max_noise) / low)
        strong |= difference > high * floor + tolerance
        weak |= difference > np.maximum(low * floor + tolerance, _halo(difference, sigma_px, settings.halo_share))
    return _cleaned(_hysteresis(strong, weak | strong), settings)


def _halo(difference: Float32, sigma_px: float, share: float) -> Float32 | float:
    """What smoothing over `sigma_px` alone may show beside a larger difference (H, W)."""
    if sigma_px == 0:
        return 0.0
    side = 2 * round(3 * sigma_px) + 1
    return cast(Float32, share * cv2.dilate(difference, np.ones((side, side), dtype=np.uint8)))


def _levels(image: ImageU8) -> Float32:
    """Y'CrCb (H, W, 3), levels 0..255."""
    return cast(Float32, cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32))


def _norm(difference: Float32) -> Float32:
    return cast(Float32, np.sqrt(np.einsum("hwc,hwc->hw", difference, difference)))


def _blurred(values: Float32, sigma_px: float) -> Float32:
    return cast(Float32, cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))


def _local_contrast(lightness: Float32, sigma_px: float) -> Float32:
    """Local standard deviation of L (H, W), in L units."""
    mean = _blurred(lightness, sigma_px)
    return cast(Float32, np.sqrt(np.maximum(_blurred(lightness * lightness, sigma_px) - mean * mean, 0)))


def _shift_px(source: Float32, edited: Float32, max_shift_px: float) -> tuple[float, float]:
    """(x, y) by which the source's content lies elsewhere in the edited image; (0, 0) where moving does not help."""
    window = cv2.createHanningWindow(source.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(source, edited, window)
    if not 0.05 < max(abs(x), abs(y)) <= max_shift_px:
        return 0.0, 0.0
    before = np.abs(source - edited)
    after = np.abs(_moved(source, (x, y)) - edited)
    return (float(x), float(y)) if np.minimum(after, 10).mean() < np.minimum(before, 10).mean() else (0.0, 0.0)


def _moved(image: Float32, shift_px: tuple[float, float]) -> Float32:
    """`image` moved by (x, y) pixels, its border repeated."""
    if shift_px == (0.0, 0.0):
        return image
    matrix = np.array([[1, 0, shift_px[0]], [0, 1, shift_px[1]]], dtype=np.float32)
    size = (image.shape[1], image.shape[0])
    moved: Any = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast(Float32, moved)


def _fit_colours(source: Float32, edited: Float32) -> tuple[Float32, Float32]:
    """(matrix (3, 3), offset (3,)) with `source @ matrix + offset` near the edited colours of the unchanged pixels.

    Iteratively reweighted least squares (Geman-McClure weights) on a small copy, drawn towards no change.
    """
    small = (64, 64)
    x = cv2.resize(source, small, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float64)
    y = cv2.resize(edited, small, interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float64)
    matrix, offset = np.eye(3), np.median(y - x, axis=0)
    scale = 12.0
    for _ in range(12):
        residual = np.linalg.norm(x @ matrix + offset - y, axis=1)
        scale = max(1.0, min(scale, 2.0 * float(np.median(residual))))
        weight = 1 / np.square(1 + np.square(residual / scale))
        matrix, offset = _ridge_affine(x, y, weight)
    return matrix.astype(np.float32), offset.astype(np.float32)


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
