"""What can be seen of an edit in pixels alone, given the source, the wanted image and where the edit belongs.

Everything is a loss in [0, 1], 0 where the candidate is the wanted image. All distances are in CIE Lab and forgive
`TOLERANCE_LAB`, so one or two levels of codec noise cost nothing.

| symbol | meaning |
|---|---|
| E | candidate - wanted |
| D | wanted - source: the change that was asked for |
| beta | the local share of D that is lacking (least squares of -E on D, clipped to [0, 1]) |
| R | E + beta D: what is wrong and is not simply lacking |
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.editors.operations import to_lab
from pipeline.editors.shapes import ImageF32
from runtime.images import ImageU8
from runtime.masks import MaskBool

TOLERANCE_LAB = 1.5
REFERENCE_PX = 256
LEAK_BAND_PX = 13
_FINE_SIGMA_PX = 1.0
_LOCAL_SIGMA_PX = 2.5
_GRAIN_SHARE = 0.35
_GRAIN_LAB = 24.0
_MOTTLE_LAB = 5.0
_MOTTLE_SIGMA_PX = 5.0
_FLOW_MIN_PX = 32
#: The flow explains this share of a plain bend; the rest is interpolation.
_FLOW_EXPLAINS = 0.8
_TINT_LAB = 60.0
_SEAM_LAB = 28.0
_LEAK_LAB = 14.0
_BACKGROUND_LAB = 36.0
_BACKGROUND_POWER = 3.0


@dataclass(frozen=True)
class PlaceLoss:
    """Losses of one region or the background, each 0..1; undone and leak are 0 for the background.

    undone: share of the asked change that is lacking or wrong; grain: noise; mottle: blocks and ringing,
    some pixels wide; geometry: bent structure; tint: another colour; leak: change in the band around the
    region; seam: a line along its border.
    """

    undone: float = 0.0
    grain: float = 0.0
    mottle: float = 0.0
    geometry: float = 0.0
    tint: float = 0.0
    leak: float = 0.0
    seam: float = 0.0


@dataclass(frozen=True)
class _Fields:
    """Per-pixel quantities, (H, W) float32 in CIE Lab units, and the scale of lengths."""

    asked: ImageF32
    off: ImageF32
    wrong: ImageF32
    grain: ImageF32
    mottle: ImageF32
    bent: ImageF32
    px: float


def measure(
    source: ImageU8, wanted: ImageU8, candidate: ImageU8, masks: Mapping[str, MaskBool]
) -> tuple[dict[str, PlaceLoss], PlaceLoss]:
    """(losses per region, losses of the background) of `candidate`; images HWC uint8, masks (H, W, bool), one size.

    Raises: ValueError where the sizes differ.
    """
    shape = candidate.shape[:2]
    if any(other.shape[:2] != shape for other in (source, wanted, *masks.values())):
        raise ValueError("source, wanted, candidate and masks must have the same height and width")
    union = np.zeros(shape, dtype=np.bool_)
    for mask in masks.values():
        union |= mask
    outside = ~_grown(union, 2)
    fields = _fields(to_lab(source), to_lab(wanted), to_lab(candidate), union)
    losses = {}
    for key, mask in masks.items():
        losses[key] = _region_loss(fields, mask, union, outside) if mask.any() else PlaceLoss()
    return losses, _background_loss(fields, outside)


def _fields(source: ImageF32, wanted: ImageF32, candidate: ImageF32, union: MaskBool) -> _Fields:
    error, change = candidate - wanted, wanted - source
    rest = error + _lacking(error, change)[..., None] * change
    mottle = _mottle(rest, union)
    bent = _bent_share(candidate, wanted, rest)
    return _Fields(
        asked=_coarse(change),
        off=_coarse(error),
        wrong=_coarse(rest),
        grain=_fine_rms(rest) * (1 - bent),
        mottle=mottle * (1 - bent),
        bent=mottle * bent,
        px=max(candidate.shape[:2]) / REFERENCE_PX,
    )


def _lacking(error: ImageF32, change: ImageF32) -> ImageF32:
    """beta: the share of the change that is lacking around each pixel; 0 where next to nothing was asked for."""
    shared = _smooth((error * change).sum(axis=-1), _LOCAL_SIGMA_PX)
    whole = _smooth((change * change).sum(axis=-1), _LOCAL_SIGMA_PX)
    share = np.clip(-shared / np.maximum(whole, 1e-6), 0, 1)
    return np.asarray(np.where(whole > 4 * TOLERANCE_LAB**2, share, 0), dtype=np.float32)


def _smooth(values: NDArray[np.float32], sigma_px: float) -> ImageF32:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)


def _norm(values: NDArray[np.float32]) -> ImageF32:
    return np.asarray(np.sqrt((values * values).sum(axis=-1)), dtype=np.float32)


def _fine_rms(values: ImageF32) -> ImageF32:
    """Local root mean square of what is finer than a pixel or two."""
    fine = values - _smooth(values, _FINE_SIGMA_PX)
    return np.asarray(np.sqrt(_smooth((fine * fine).sum(axis=-1), _LOCAL_SIGMA_PX)), dtype=np.float32)


def _mottle(rest: ImageF32, union: MaskBool) -> ImageF32:
    """What is wrong and some pixels wide; inside and outside of the regions are told apart, so neither leaks over."""
    fine = _smooth(rest, _FINE_SIGMA_PX)
    level = np.zeros_like(rest)
    for side in (union, ~union):
        weight = np.maximum(_smooth(side.astype(np.float32), _MOTTLE_SIGMA_PX), 1e-3)[..., None]
        level[side] = (_smooth(rest * side[..., None], _MOTTLE_SIGMA_PX) / weight)[side]
    return _norm(fine - level)


def _bent_share(candidate: ImageF32, wanted: ImageF32, rest: ImageF32) -> ImageF32:
    """The share of what is wrong around each pixel that goes away when the wanted image is bent along the optical flow.

    Nearly all of it for bent structure, next to nothing for noise, blocks or another colour.
    """
    height, width = rest.shape[:2]
    if min(height, width) < _FLOW_MIN_PX:
        return np.zeros((height, width), dtype=np.float32)
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    finder.setFinestScale(0)
    grey = [np.clip(lab[..., 0] * 2.55, 0, 255).astype(np.uint8) for lab in (candidate, wanted)]
    flow = finder.calc(grey[0], grey[1], np.zeros((height, width, 2), dtype=np.float32))
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    bent = cv2.remap(wanted, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    off = np.asarray(candidate - bent, dtype=np.float32)
    left = _smooth(_norm(_smooth(off, _FINE_SIGMA_PX)), _LOCAL_SIGMA_PX)
    whole = _smooth(_norm(_smooth(rest, _FINE_SIGMA_PX)), _LOCAL_SIGMA_PX)
    share = np.clip((1 - left / np.maximum(whole, 1e-3)) / _FLOW_EXPLAINS, 0, 1)
    return np.asarray(np.where(whole > TOLERANCE_LAB, share, 0), dtype=np.float32)


def _coarse(values: ImageF32) -> ImageF32:
    """Length of the smoothed difference, less the tolerance and what fine noise alone would leave in it."""
    left = _norm(_smooth(values, _FINE_SIGMA_PX)) - TOLERANCE_LAB - _GRAIN_SHARE * _fine_rms(values)
    return np.asarray(np.maximum(left, 0), dtype=np.float32)


def _grown(mask: MaskBool, by_px: int) -> MaskBool:
    kernel = np.ones((2 * by_px + 1, 2 * by_px + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), dtype=np.bool_)


def _share(values: NDArray[np.float32], full: float) -> float:
    """Mean of `values`, each counted as a share of `full` and at most 1; 0 for none."""
    return float(np.minimum(values / full, 1).mean()) if values.size else 0.0


def _region_loss(fields: _Fields, mask: MaskBool, union: MaskBool, outside: MaskBool) -> PlaceLoss:
    inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1, mode="edge"), cv2.DIST_L2, 3)[1:-1, 1:-1]
    beyond = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    core = mask & (inside > 2)
    core = core if core.any() else mask
    band = outside & (beyond <= 1 + LEAK_BAND_PX * fields.px)
    far = outside & (beyond > 1 + LEAK_BAND_PX * fields.px)
    leak = _share(fields.off[band], _LEAK_LAB) - _share(fields.off[far], _LEAK_LAB)
    line_in, line_out = mask & (inside <= 1.5), ~mask & (beyond <= 1.5)
    inner = (inside > 3) & (inside <= 6)
    outer = (beyond > 3) & (beyond <= 6) & outside
    # A seam shows on both sides of the border; a leak on the outer one alone.
    line = min(_mean(fields.wrong[line_in]), _mean(fields.wrong[line_out]))
    contrast = line - max(_mean(fields.wrong[inner]), _mean(fields.wrong[outer]))
    return PlaceLoss(
        undone=_undone(fields.asked[mask], fields.off[mask]),
        grain=_share(np.maximum(fields.grain[core] - TOLERANCE_LAB, 0), _GRAIN_LAB),
        mottle=_share(np.maximum(fields.mottle[core] - TOLERANCE_LAB, 0), _MOTTLE_LAB),
        geometry=_share(np.maximum(fields.bent[core] - TOLERANCE_LAB, 0), _MOTTLE_LAB),
        tint=_share(fields.wrong[core], _TINT_LAB),
        leak=max(leak, 0.0),
        seam=float(np.clip(contrast / _SEAM_LAB, 0, 1)),
    )


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean()) if values.size else 0.0


def _undone(asked: NDArray[np.float32], off: NDArray[np.float32]) -> float:
    """Distance from the wanted image over the distance that the edit had to go, weighted by the change asked for."""
    total = float(asked.sum())
    if total < 0.5 * asked.size:
        return _share(off, _TINT_LAB)
    return float(np.minimum(off, asked).sum()) / total


def _background_loss(fields: _Fields, outside: MaskBool) -> PlaceLoss:
    """The background's losses; a small part changed much weighs as a power mean, not by its area alone."""
    if not outside.any():
        return PlaceLoss()
    off = np.minimum(fields.off[outside] / _BACKGROUND_LAB, 1).astype(np.float64)
    return PlaceLoss(
        grain=_share(np.maximum(fields.grain[outside] - TOLERANCE_LAB, 0), _GRAIN_LAB),
        mottle=_share(np.maximum(fields.mottle[outside] - TOLERANCE_LAB, 0), _MOTTLE_LAB),
        geometry=_share(np.maximum(fields.bent[outside] - TOLERANCE_LAB, 0), _MOTTLE_LAB),
        tint=float((off**_BACKGROUND_POWER).mean() ** (1 / _BACKGROUND_POWER)),
    )
