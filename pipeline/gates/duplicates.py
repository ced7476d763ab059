"""Near-duplicates across sources: a perceptual hash per image, and clusters of keys whose hashes are near.

Two images are near-duplicates when their hashes differ in few bits *and* their coarse colours agree: rescaled,
compressed, slightly brightened or shifted copies do, other scenes do not. Mirrored, rotated and cropped copies are not
recognised.

| part of a hash | bytes | what |
|---|---|---|
| structure | 32 | 256 signs of the low frequencies of the lightness (ImageHash `phash`, hash_size 16) |
| colours | 48 | mean Lab colour of 4 x 4 cells, 8 bits a channel |
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from runtime.images import ImageU8

STRUCTURE_BITS = 256
STRUCTURE_BYTES = STRUCTURE_BITS // 8
COLOUR_CELLS = 4
HASH_BYTES = STRUCTURE_BYTES + COLOUR_CELLS * COLOUR_CELLS * 3
#: Pairs are sought in 16 bands of 16 bits, a band matching up to one bit: no pair within 31 bits is missed.
BAND_BITS = 16
SURE_DISTANCE_BITS = 2 * (STRUCTURE_BITS // BAND_BITS) - 1
#: Pairs that are compared at a time, which bounds memory.
CHUNK_PAIRS = 2_000_000

Key = TypeVar("Key", bound=Hashable)
Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateSettings:
    """When two hashes are near."""

    max_distance_bits: int = 36
    """Of 256 structure bits. Copies moved by 2 px at 256 px, brightened and compressed differ in 24 (36 at the 99th
    percentile), other images in 100 and more. Up to 31 the search is exact; of pairs beyond it misses few."""
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
    return len(_near_of(rows, np.array([[0, 1]], dtype=np.int64), settings)) == 1


def cluster(hashes: Mapping[Key, bytes], settings: DuplicateSettings = DEFAULT) -> dict[Key, Key]:
    """key -> cluster id, for every key; the id is the smallest key of the cluster (keys are compared with `<`).

    Clusters are the connected components of `near`. Less than a minute for 260,000 keys of different images.
    """
    keys: list[Any] = sorted(cast(Any, hashes))
    if not keys:
        return {}
    distinct, which = _distinct(_rows([hashes[key] for key in keys]))
    component = _components(len(distinct), _near_pairs(distinct, settings))[which]
    _, first = np.unique(component, return_index=True)
    smallest = {int(component[index]): keys[int(index)] for index in first}
    return {key: smallest[int(number)] for key, number in zip(keys, component, strict=True)}


def _rows(hashes: list[bytes]) -> NDArray[np.uint8]:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ValueError(f"a perceptual hash has {HASH_BYTES} bytes")
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(len(hashes), HASH_BYTES)


def _distinct(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The rows sorted, each once, and for each row which it is.

    Compared as strings of bytes, which is much faster than `np.unique` along an axis: that compares byte by byte.
    """
    strings = rows.view(np.dtype((np.void, HASH_BYTES)))[:, 0]
    distinct, which = np.unique(strings, return_inverse=True)
    return distinct.view(np.uint8).reshape(-1, HASH_BYTES), which


def _components(count: int, pairs: Pairs) -> NDArray[np.int32]:
    links = sparse.coo_matrix((np.ones(len(pairs), dtype=np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return cast(NDArray[np.int32], csgraph.connected_components(links, directed=False)[1])


def _near_pairs(rows: NDArray[np.uint8], settings: DuplicateSettings) -> Pairs:
    """Index pairs (P, 2) of near rows, found through bands that they share up to one bit."""
    bands = np.ascontiguousarray(rows[:, :STRUCTURE_BYTES]).view(np.uint16)
    found: list[Pairs] = [np.zeros((0, 2), dtype=np.int64)]
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band], kind="stable")
        values = bands[order, band]
        for flipped in (0, *(1 << bit for bit in range(BAND_BITS))):
            for pairs in _joined(values, flipped):
                found.append(_near_of(rows, order[pairs].astype(np.int64), settings))
    return np.concatenate(found)


def _joined(values: NDArray[np.uint16], flipped: int) -> Iterator[Pairs]:
    """Position pairs of sorted `values` that differ in just the bit `flipped` (0: equal), each pair once, in chunks."""
    places = np.flatnonzero(values & flipped == 0)
    wanted = values[places] | np.uint16(flipped)
    first = np.searchsorted(values, wanted, side="left") if flipped else places + 1
    counts = np.searchsorted(values, wanted, side="right") - first
    if not counts.any():  # so it is for nearly every bit where there are few rows
        return
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(places):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + CHUNK_PAIRS, side="right")))
        part = counts[begin:end]
        offsets = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        left = np.repeat(places[begin:end], part)
        yield np.stack([left, np.repeat(first[begin:end], part) + offsets], axis=1).astype(np.int64)
        begin = end


def _near_of(rows: NDArray[np.uint8], pairs: Pairs, settings: DuplicateSettings) -> Pairs:
    """Those of the index pairs whose rows are near; structure first, which leaves few."""
    words = rows[:, :STRUCTURE_BYTES]
    bits = np.zeros(len(pairs), dtype=np.uint16)
    for start in range(0, STRUCTURE_BYTES, 8):
        word = np.ascontiguousarray(words[:, start : start + 8]).view(np.uint64)[:, 0]
        bits += np.bitwise_count(word[pairs[:, 0]] ^ word[pairs[:, 1]])
    pairs = pairs[bits <= settings.max_distance_bits]
    first, second = (rows[pairs[:, side], STRUCTURE_BYTES:].astype(np.float32) for side in (0, 1))
    difference = (first - second).reshape(len(pairs), COLOUR_CELLS**2, 3)
    brightening = difference[..., 0].mean(axis=1)
    difference[..., 0] -= brightening[:, None]
    distance = np.abs(difference).mean(axis=(1, 2))
    same_colours = (distance <= settings.max_colour_distance) & (np.abs(brightening) <= settings.max_brightening)
    return cast(Pairs, pairs[same_colours])
