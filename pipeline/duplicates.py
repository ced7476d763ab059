"""Near-duplicates across sources: a perceptual hash per image, and clusters of keys whose hashes are near.

Two images are near-duplicates when their hashes differ in few bits *and* their coarse colours agree: rescaled,
compressed, slightly brightened or shifted copies do, other scenes do not. Mirrored, rotated and cropped copies are not
recognised.

| part of a hash | bytes | what |
|---|---|---|
| structure | 32 | 256 signs of the low frequencies of the lightness (ImageHash `phash`, hash_size 16) |
| colours | 48 | mean Lab colour of 4 x 4 cells, 8 bits a channel |
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from pipeline.images import ImageU8

STRUCTURE_BITS = 256
STRUCTURE_BYTES = STRUCTURE_BITS // 8
COLOUR_CELLS = 4
HASH_BYTES = STRUCTURE_BYTES + COLOUR_CELLS * COLOUR_CELLS * 3
#: Bands of 16 bits: two hashes within 15 bits share at least one of the 16 bands.
BAND_BYTES = 2
MAX_EXACT_DISTANCE_BITS = STRUCTURE_BYTES // BAND_BYTES - 1

Key = TypeVar("Key", bound=Hashable)
Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateSettings:
    """When two hashes are near."""

    max_distance_bits: int = 15
    """Of 256 structure bits: the banding misses no pair up to 15."""
    max_colour_distance: float = 12.0
    """Largest mean difference of the cells' Lab colours (0..255 scale), after a common brightening is taken out."""
    max_brightening: float = 25.0
    """Largest common brightening (0..255 scale of L) between two copies."""


DEFAULT = DuplicateSettings()


def perceptual_hash(image: ImageU8) -> bytes:
    """80 bytes of `image` (HWC uint8 RGB, any size), near for near-duplicates."""
    structure = imagehash.phash(Image.fromarray(image, "RGB"), hash_size=16)
    bits = np.packbits(np.asarray(structure.hash, dtype=np.bool_).ravel())
    cells = cv2.resize(image, (COLOUR_CELLS, COLOUR_CELLS), interpolation=cv2.INTER_AREA)
    return bytes(bits.tobytes() + cv2.cvtColor(cells, cv2.COLOR_RGB2LAB).tobytes())


def distance_bits(first: bytes, second: bytes) -> int:
    """How many of the 256 structure bits of two hashes differ."""
    return (int.from_bytes(first[:STRUCTURE_BYTES]) ^ int.from_bytes(second[:STRUCTURE_BYTES])).bit_count()


def near(first: bytes, second: bytes, settings: DuplicateSettings = DEFAULT) -> bool:
    """Whether two hashes are those of near-duplicates."""
    rows = _rows([first, second])
    return bool(_are_near(rows, np.array([[0, 1]], dtype=np.int64), settings)[0])


def cluster(hashes: Mapping[Key, bytes], settings: DuplicateSettings = DEFAULT) -> dict[Key, Key]:
    """key -> cluster id, for every key; the id is the smallest key of the cluster (keys are compared with `<`).

    Clusters are the connected components of `near`. Some 10 s for 260,000 keys.
    """
    keys: list[Any] = sorted(cast(Any, hashes))
    if not keys:
        return {}
    distinct, which = np.unique(_rows([hashes[key] for key in keys]), axis=0, return_inverse=True)
    component = _components(len(distinct), _near_pairs(distinct, settings))[which.ravel()]
    _, first = np.unique(component, return_index=True)
    smallest = {int(component[index]): keys[int(index)] for index in first}
    return {key: smallest[int(number)] for key, number in zip(keys, component, strict=True)}


def _rows(hashes: list[bytes]) -> NDArray[np.uint8]:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ValueError(f"a perceptual hash has {HASH_BYTES} bytes")
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(len(hashes), HASH_BYTES)


def _components(count: int, pairs: Pairs) -> NDArray[np.int32]:
    links = sparse.coo_matrix((np.ones(len(pairs), dtype=np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return cast(NDArray[np.int32], csgraph.connected_components(links, directed=False)[1])


def _near_pairs(rows: NDArray[np.uint8], settings: DuplicateSettings) -> Pairs:
    """Index pairs (P, 2) of near rows, found through bands that they share."""
    bands = rows[:, :STRUCTURE_BYTES].copy().view(np.uint16)
    found: list[Pairs] = [np.zeros((0, 2), dtype=np.int64)]
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band], kind="stable")
        values = bands[order, band]
        for step in range(1, _longest_run(values)):
            same = np.flatnonzero(values[step:] == values[:-step])
            pairs = np.stack([order[same], order[same + step]], axis=1).astype(np.int64)
            found.append(pairs[_are_near(rows, pairs, settings)])
    return np.concatenate(found)


def _longest_run(ordered: NDArray[np.uint16]) -> int:
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    return int(np.diff(starts).max())


def _are_near(rows: NDArray[np.uint8], pairs: Pairs, settings: DuplicateSettings) -> NDArray[np.bool_]:
    first, second = rows[pairs[:, 0]], rows[pairs[:, 1]]
    words = (first[:, :STRUCTURE_BYTES] ^ second[:, :STRUCTURE_BYTES]).view(np.uint64)
    near_structure = np.bitwise_count(words).sum(axis=1) <= settings.max_distance_bits
    colours = first[:, STRUCTURE_BYTES:].astype(np.int16) - second[:, STRUCTURE_BYTES:].astype(np.int16)
    difference = colours.reshape(len(pairs), -1, 3).astype(np.float32)
    brightening = difference[..., 0].mean(axis=1)
    difference[..., 0] -= brightening[:, None]
    near_colours = np.abs(difference).mean(axis=(1, 2)) <= settings.max_colour_distance
    return cast(NDArray[np.bool_], near_structure & near_colours & (np.abs(brightening) <= settings.max_brightening))
