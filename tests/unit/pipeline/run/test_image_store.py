"""The tar of a part's images: each picture once, what is read back, and that the pixels of none are kept."""

import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.run.image_store import ImageTar, read_image
from runtime.images import ImageU8
from schemas.sample import ImageFormat

NAME = "images/sources/part-00000.tar"


def _noise(seed: int, side_px: int = 40) -> ImageU8:
    return np.random.default_rng(seed).integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_the_same_picture_lies_there_once_and_is_read_back_as_it_was_told(
    tmp_path: Path, image_format: ImageFormat
) -> None:
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        tar = ImageTar(file, NAME, image_format)
        first, other, again = (tar.add(_noise(seed)) for seed in (1, 2, 1))
        tar.close()
    assert again.ref == first.ref != other.ref
    for stored in (first, other, again):
        assert np.array_equal(stored.pixels, read_image(tmp_path, stored.ref))
    with tarfile.open(path) as written:
        assert len(written.getnames()) == 2


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_no_pixels_are_kept(tmp_path: Path, image_format: ImageFormat) -> None:
    """30 pictures of 480 KB: what is kept of them is less than one."""
    with (tmp_path / "a.tar").open("wb") as file:
        tar = ImageTar(file, NAME, image_format)
        tar.add(_noise(0, 400))  # what is imported and made once
        tracemalloc.start()
        try:
            for seed in range(1, 31):
                tar.add(_noise(seed, 400))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 400_000
