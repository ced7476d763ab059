"""Images that a gate shall drop: copies of a source or a candidate, and gross faults."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.edit_cases import jpeg, shifted
from pipeline.editors.operations import compose, from_lab, soft, to_lab
from runtime.images import ImageU8
from runtime.masks import MaskBool


class Candidate(Protocol):
    """A candidate with its source, both HWC uint8 RGB, of one request."""

    @property
    def source(self) -> ImageU8:
        """The image before the edit."""
        ...

    @property
    def candidate(self) -> ImageU8:
        """The image after the edit."""
        ...

    def background(self) -> MaskBool:
        """Mask (H, W) of what the request leaves alone."""
        ...


def as_u8(values: NDArray[np.floating[Any]]) -> ImageU8:
    """Values rounded and clipped to 0..255."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _mixed(edited: Candidate, painted: NDArray[Any]) -> ImageU8:
    """The candidate with its background painted over."""
    return compose(edited.candidate, np.asarray(painted, dtype=np.float32), soft(edited.background()))


def _recompressed(image: ImageU8, rng: Generator) -> ImageU8:
    return jpeg(image, int(rng.integers(75, 96)))


def _moved(image: ImageU8, rng: Generator) -> ImageU8:
    x, y = rng.uniform(-1, 1, 2)
    moved: ImageU8 = shifted(image, float(x), float(y))
    return jpeg(moved, 90)


def _drifted(image: ImageU8, rng: Generator) -> ImageU8:
    return as_u8(image + rng.uniform(-1, 1, 3))


def _lab_drift(edited: Candidate, other: ImageU8, rng: Generator) -> ImageU8:
    """The background's colours moved by 35..60 Delta E, towards where there is room."""
    lab = to_lab(edited.candidate)
    aim, angle = rng.uniform(35, 60), rng.uniform(0, 2 * np.pi)
    up = -1.0 if float(lab[..., 0][edited.background()].mean()) > 50 else 1.0
    shift = aim * np.array([0.8 * up, 0.6 * np.cos(angle), 0.6 * np.sin(angle)], dtype=np.float32)
    return _mixed(edited, from_lab(lab + shift))


def _grain(edited: Candidate, other: ImageU8, rng: Generator) -> ImageU8:
    noise = rng.normal(0, rng.uniform(90, 120), edited.candidate.shape)
    return _mixed(edited, np.clip(edited.candidate + noise, 0, 255))


def _shuffled(image: ImageU8, rng: Generator) -> ImageU8:
    """The 8 x 8 tiles of `image` in another order."""
    side = image.shape[0] // 8
    tiles = image.reshape(8, side, 8, side, 3).swapaxes(1, 2).reshape(64, side, side, 3)
    mixed = tiles[rng.permutation(64)].reshape(8, 8, side, side, 3).swapaxes(1, 2)
    return np.ascontiguousarray(mixed.reshape(image.shape))


COPIES: dict[str, Callable[[ImageU8, Generator], ImageU8]] = {
    "recompressed": _recompressed,
    "moved": _moved,
    "drifted by a level": _drifted,
    "itself": lambda image, rng: image.copy(),
}
_Gross = Callable[[Candidate, ImageU8, Generator], ImageU8]
#: gate -> kind -> how such an image is made from a candidate, another image and chance.
GROSS: dict[str, dict[str, _Gross]] = {
    "unchanged": {
        "source recompressed": lambda edited, other, rng: _recompressed(edited.source, rng),
        "source moved": lambda edited, other, rng: _moved(edited.source, rng),
        "source drifted by a level": lambda edited, other, rng: _drifted(edited.source, rng),
        "source": lambda edited, other, rng: edited.source.copy(),
    },
    "changed_all_over": {
        "another image": lambda edited, other, rng: other,
        "tiles shuffled": lambda edited, other, rng: _shuffled(edited.candidate, rng),
        "another background": lambda edited, other, rng: _mixed(edited, other),
    },
    "preservation": {
        "strong drift": _lab_drift,
        "strong noise": _grain,
        "negative": lambda edited, other, rng: _mixed(edited, 255 - edited.candidate),
    },
}
