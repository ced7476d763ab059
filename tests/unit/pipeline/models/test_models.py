"""Specs of detectors and prompted segmenters."""

from pathlib import Path

import pytest

from pipeline.models.checkpoint import require_package
from pipeline.models.registry import (
    _DETECTORS,
    _SEGMENTERS,
    MODEL_DETECTORS,
    PROMPT_SEGMENTERS,
    make_detector,
    make_prompt_segmenter,
)
from schemas.errors import BadInput, MissingPackage
from tests.cases.model_cases import write_sam2, write_sam3, write_sam3_tracker


def test_every_known_name_has_a_maker() -> None:
    assert tuple(_DETECTORS) == MODEL_DETECTORS
    assert tuple(_SEGMENTERS) == PROMPT_SEGMENTERS


def test_specs_make_what_they_name(tmp_path: Path) -> None:
    assert make_detector(f"sam3:{write_sam3(tmp_path / 'a')}").name == "sam3"
    assert make_prompt_segmenter(f"sam3:{write_sam3_tracker(tmp_path / 'b')}").name == "sam3"
    assert make_prompt_segmenter(f"sam2:{write_sam2(tmp_path / 'c')}").name == "sam2"


@pytest.mark.parametrize("name", MODEL_DETECTORS)
def test_a_detector_without_its_checkpoint_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not say where its checkpoint is"):
        make_detector(name)
    with pytest.raises(BadInput) as error:
        make_detector(f"{name}:{tmp_path / 'none'}")
    assert f"{tmp_path / 'none'}: does not exist" in str(error.value)
    assert "download" in error.value.remedy
    assert "https://" in error.value.remedy


@pytest.mark.parametrize("spec", ["yolo:x", "", "targets"])
def test_an_unknown_detector_is_refused(spec: str) -> None:
    with pytest.raises(BadInput, match="is not known; choose one of groundingdino"):
        make_detector(spec)
    with pytest.raises(BadInput, match="is not known; choose one of"):
        make_prompt_segmenter(spec)


def test_a_missing_package_gives_the_install_line() -> None:
    with pytest.raises(MissingPackage, match=r"^sam9: needs no_such_package, which is not installed; pip install it$"):
        require_package("no_such_package", "sam9", "pip install it")
