"""The `difference` segmenter: which pixels of an edited image were edited, seen against its source.

Both are in one frame (`pipeline.regions.framing`). Two things that are no edit are taken out first: a drift of colours
(an affine map, fitted on the pixels that agree with it), and noise as compression makes it (thresholds that rise with
the residual of the unchanged part and with local contrast). What is left is looked at in three ways: colour pixel by
pixel, smoothed colour, and local contrast, which sees blur and texture where the mean colour stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from pipeline.regions.registration import Float32, blurred, equally_sharp, fit_colours, local_contrast
from runtime.images import ImageU8
from runtime.masks import MaskBool

COARSE_CELLS = 11
#: Cells over which noise is measured.
ROUGHNESS_CELL_PX = 16
ROUGHNESS_CONTRAST_SHARE = 0.15
#: Compression rings within its blocks.
RINGING_PX = 8


@dataclass(frozen=True)
class DifferenceSettings:
    """Thresholds in levels (0..255) of Y'CbCr, in which compression noise is even; lengths in pixels of the image."""

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
    contrast_halo_share: float = 0.65
    """The same for local contrast, which reaches further beyond an edge."""
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
    """Source and edited image brought together.

    source: as it is; fitted: in the colours of the edited image; edited: as it is; all (H, W, 3) Y'CrCb, levels 0..255.
    drift: mean distance (levels) by which the fitted colour map moves the source's colours.
    """

    source: Float32
    fitted: Float32
    edited: Float32
    drift: float

    def distance(self) -> Float32:
        """Distance (H, W), in levels, of the edited image from the source; drift of colour counts."""
        return norm(self.source - self.edited)

    def replaced_share(self, where: MaskBool, min_levels: float) -> float:
        """Share of `where` whose coarse colours, in 11 cells a side, are others by `min_levels`; drift left out.

        Coarse, so that grain and bent outlines count little: what is counted shows something else than the source.
        """
        longest = max(where.shape)
        cells = [max(1, round(COARSE_CELLS * side / longest)) for side in where.shape][::-1]
        colours = cast(Float32, cv2.resize(self.fitted - self.edited, cells, interpolation=cv2.INTER_AREA))
        weight = cv2.resize(where.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
        total = float(weight.sum())
        return float(weight[norm(colours) > min_levels].sum()) / total if total else 0.0

    def roughness(self) -> float:
        """The largest difference of lightness in any 16 px cell, drift left out: what noise does, in levels.

        Mean of the cell, less a share of its contrast, as compression and shifts by parts of a pixel err with contrast.
        """
        difference = np.abs(self.fitted[..., 0] - self.edited[..., 0])
        allowed = ROUGHNESS_CONTRAST_SHARE * local_contrast(self.fitted[..., 0], 2.0)
        cells = [max(1, round(side / ROUGHNESS_CELL_PX)) for side in difference.shape]
        return max(0.0, float(cv2.resize(difference - allowed, cells[::-1], interpolation=cv2.INTER_AREA).max()))


class DifferenceSegmenter:
    """A `pipeline.models.protocols.Segmenter` that compares pixels and needs no weights."""

    name = "difference"
    revision = "2"

    def __init__(self, settings: DifferenceSettings = DEFAULT) -> None:
        self.settings = settings

    def changed(self, source: ImageU8, edited: ImageU8, unseen: MaskBool | None = None) -> MaskBool:
        """Mask (H, W) of the pixels that were edited, both images in one frame, but what is `unseen` of it.

        Raises: ValueError where the shapes differ.
        """
        return changed_mask(compare(source, edited), self.settings, unseen)


def compare(source: ImageU8, edited: ImageU8) -> Comparison:
    """Both images in Y'CrCb, and the source coloured as the edited image's unchanged part is.

    Raises: ValueError where the shapes differ.
    """
    if source.shape != edited.shape:
        raise ValueError(f"source is {source.shape}, edited {edited.shape}: bring one into the frame of the other")
    source_rgb, edited_rgb = source.astype(np.float32), edited.astype(np.float32)
    before, after = _levels(source_rgb), _levels(edited_rgb)
    colour_map = fit_colours(source_rgb, edited_rgb)
    del edited_rgb
    fitted = cast(Float32, cv2.transform(source_rgb, colour_map))
    del source_rgb
    fitted = _levels(np.clip(fitted, 0, 255, out=fitted))
    return Comparison(before, fitted, after, float(norm(fitted - before).mean()))


def changed_mask(pair: Comparison, settings: DifferenceSettings = DEFAULT, unseen: MaskBool | None = None) -> MaskBool:
    """The mask (H, W) of what differs in a comparison; nothing does where it is `unseen` (mask, see `Framed`)."""
    fitted, edited = equally_sharp(pair.fitted, pair.edited)
    before = local_contrast(fitted[..., 0], settings.contrast_sigma_px)
    after = local_contrast(edited[..., 0], settings.contrast_sigma_px)
    tolerance = settings.contrast_tolerance * np.minimum(before, after)
    strong = np.zeros(before.shape, dtype=np.bool_)
    weak = np.zeros(before.shape, dtype=np.bool_)
    for evidence, high, low, halo in _evidence(fitted, edited, np.abs(before - after), settings):
        floor = max(1.0, settings.noise_factor * min(_noise(evidence), settings.max_noise) / low)
        limit = high * floor + tolerance
        strong |= evidence > limit
        np.add(low * floor, tolerance, out=limit)
        weak |= evidence > np.maximum(limit, halo, out=limit)
        del evidence, limit, halo  # before the next is made
    if unseen is None:
        return _cleaned(_hysteresis(strong, weak | strong), settings)
    return _cleaned(_hysteresis(strong & ~unseen, (weak | strong) & ~unseen), settings) & ~unseen


_Evidence = tuple[Float32, float, float, Float32]


def _evidence(fitted: Float32, edited: Float32, contrast: Float32, settings: DifferenceSettings) -> Iterator[_Evidence]:
    """(difference (H, W), threshold to begin, threshold to carry on, halo (H, W)) of each way to look."""
    pixel = _pixel_difference(fitted[..., 0], edited[..., 0], settings.neighbour_share)
    yield pixel, settings.pixel_strong, settings.pixel_weak, settings.ringing_share * _largest(pixel, RINGING_PX)
    scales = (
        (settings.smooth_sigma_px, settings.smooth_strong, settings.smooth_weak, settings.halo_share),
        (settings.coarse_sigma_px, settings.coarse_strong, settings.coarse_weak, settings.coarse_halo_share),
    )
    for sigma_px, strong, weak, share in scales:
        smooth = blurred(fitted - edited, sigma_px)
        np.abs(smooth, out=smooth)
        for values, factor in ((smooth[..., 0], 1.0), (norm(smooth[..., 1:]), settings.chroma_factor)):
            yield values, strong * factor, weak * factor, share * _largest(values, 3 * sigma_px)
    halo = settings.contrast_halo_share * _largest(contrast, 3 * settings.contrast_sigma_px)
    yield contrast, settings.contrast_strong, settings.contrast_weak, halo


def _largest(values: Float32, radius_px: float) -> Float32:
    """The largest of `values` within `radius_px` (a square) of each pixel."""
    side = 2 * round(radius_px) + 1
    return cast(Float32, cv2.dilate(values, np.ones((side, side), dtype=np.uint8)))


def _levels(rgb: Float32) -> Float32:
    """Y'CrCb (H, W, 3) of RGB in 0..255: levels, chroma about 0.5."""
    return cast(Float32, cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))


def norm(difference: Float32) -> Float32:
    """Length (H, W) of the last axis of (H, W, C)."""
    squares = cast(Float32, np.einsum("hwc,hwc->hw", difference, difference))
    return np.sqrt(squares, out=squares)


def _pixel_difference(before: Float32, after: Float32, neighbour_share: float) -> Float32:
    """Lightness difference (H, W) beyond the range of the other image's 3x3 pixels around, seen from both sides."""
    return np.maximum(_outside_range(after, before, neighbour_share), _outside_range(before, after, neighbour_share))


def _outside_range(image: Float32, other: Float32, share: float) -> Float32:
    kernel = np.ones((3, 3), dtype=np.uint8)
    below = _drawn_to(other, cast(Float32, cv2.erode(other, kernel)), share)
    below -= image
    above = _drawn_to(other, cast(Float32, cv2.dilate(other, kernel)), share)
    np.subtract(image, above, out=above)
    np.maximum(below, above, out=below)
    return np.maximum(below, 0, out=below)


def _drawn_to(values: Float32, end: Float32, share: float) -> Float32:
    """`values` moved by `share` of the way to `end`, which is written over: no third array is held."""
    end -= values
    end *= share
    end += values
    return end


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
