"""Near-duplicates across sources: copies are found, other images are not, clusters are what a plain search finds."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from pipeline.gates.duplicates import (
    HASH_BYTES,
    STRUCTURE_BYTES,
    SURE_DISTANCE_BITS,
    DuplicateSettings,
    cluster,
    distance_bits,
    near,
    perceptual_hash,
)
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, decode_image, encode_image
from tests.cases.examples import few_examples

SIDE = 160
PHOTOGRAPHS = ("astronaut", "coffee", "rocket", "camera", "coins", "moon")


def photograph(name: str) -> ImageU8:
    return np.array(Image.fromarray(getattr(data, name)()).convert("RGB").resize((SIDE, SIDE)))


@pytest.fixture(scope="module")
def images() -> list[ImageU8]:
    scenes = [render_scene(9, index, SIDE).image_hwc_u8 for index in range(20)]
    return [*scenes, *(photograph(name) for name in PHOTOGRAPHS)]


def jpeg(image: ImageU8) -> ImageU8:
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return decode_image(encoded.tobytes())


COPIES = {
    "compressed": jpeg,
    "halved": lambda image: np.array(Image.fromarray(image).resize((SIDE // 2, SIDE // 2))),
    "enlarged": lambda image: np.array(Image.fromarray(image).resize((SIDE * 2, SIDE * 2))),
    "brightened": lambda image: np.clip(image * 1.06 + 4, 0, 255).astype(np.uint8),
    "moved": lambda image: np.pad(image, ((1, 0), (1, 0), (0, 0)), mode="edge")[:-1, :-1],
    "lossless": lambda image: decode_image(encode_image(image, "png")),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_near(images: list[ImageU8], kind: str) -> None:
    far = [
        i for i, image in enumerate(images) if not near(perceptual_hash(image), perceptual_hash(COPIES[kind](image)))
    ]
    assert far == []


def test_other_images_are_not_near(images: list[ImageU8]) -> None:
    hashes = [perceptual_hash(image) for image in images]
    assert not any(near(a, b) for i, a in enumerate(hashes) for b in hashes[i + 1 :])
    assert min(distance_bits(a, b) for i, a in enumerate(hashes) for b in hashes[i + 1 :]) > 60


def test_the_same_drawing_in_another_colour_is_another_image() -> None:
    image = photograph("coffee")
    swapped = np.ascontiguousarray(image[..., ::-1])
    grey = swapped.mean(axis=2, keepdims=True)
    same_light = np.clip(swapped * (image.mean(axis=2, keepdims=True) / np.maximum(grey, 1)), 0, 255).astype(np.uint8)
    assert not near(perceptual_hash(image), perceptual_hash(same_light))


def test_clusters_are_named_by_their_smallest_key_whatever_the_order(images: list[ImageU8]) -> None:
    hashes = {f"k{index:02d}": perceptual_hash(image) for index, image in enumerate(images)}
    hashes |= {f"copy{index:02d}": perceptual_hash(jpeg(image)) for index, image in enumerate(images)}
    found = cluster(hashes)
    assert found == {key: f"copy{key[-2:]}" for key in hashes}
    assert cluster(dict(reversed(hashes.items()))) == found


def test_no_hashes_no_clusters() -> None:
    assert cluster({}) == {}
    assert cluster({"one": bytes(HASH_BYTES)}) == {"one": "one"}


def test_a_hash_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="80 bytes"):
        cluster({1: b"short"})


def flipped(value: bytes, bits: list[int]) -> bytes:
    changed = bytearray(value)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@few_examples
@given(st.integers(0, 2**32), st.integers(0, SURE_DISTANCE_BITS))
def test_no_pair_within_the_sure_distance_is_missed(seed: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    rows = {index: rng.bytes(HASH_BYTES) for index in range(2, 30)}
    rows[0] = rng.bytes(HASH_BYTES)
    rows[1] = flipped(rows[0], [int(bit) for bit in rng.permutation(8 * STRUCTURE_BYTES)[:distance]])
    assert cluster(rows) == {0: 0, 1: 0} | {index: index for index in range(2, 30)}


def test_near_ends_at_the_stated_number_of_bits() -> None:
    value, limit = bytes(HASH_BYTES), DuplicateSettings().max_distance_bits
    assert near(value, flipped(value, list(range(0, 2 * limit, 2))))
    assert not near(value, flipped(value, list(range(0, 2 * limit + 2, 2))))
    assert distance_bits(value, flipped(value, [0, 9, 255])) == 3


@few_examples
@given(st.integers(0, 2**32))
def test_clusters_are_the_components_of_near(seed: int) -> None:
    """Chains of copies of copies: a plain search over all pairs says the same."""
    rng = np.random.default_rng(seed)
    rows = [rng.bytes(HASH_BYTES)]
    for _ in range(14):
        parent = rows[int(rng.integers(len(rows)))]
        bits = rng.permutation(8 * STRUCTURE_BYTES)[: int(rng.integers(0, 31))]
        rows.append(flipped(parent, [int(bit) for bit in bits]) if rng.random() < 0.7 else rng.bytes(HASH_BYTES))
    limits = DuplicateSettings(max_distance_bits=SURE_DISTANCE_BITS)
    names = list(range(len(rows)))
    links = [(i, j) for i in names for j in names[:i] if near(rows[i], rows[j], limits)]
    for _ in rows:
        for i, j in links:
            names[i] = names[j] = min(names[i], names[j])
    assert cluster(dict(enumerate(rows)), limits) == dict(enumerate(names))


def test_thousands_of_equal_hashes_are_one_cluster_in_no_time() -> None:
    found = cluster(dict.fromkeys(range(20_000), bytes(HASH_BYTES)))
    assert set(found.values()) == {0}
