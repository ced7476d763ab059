"""SAM 3 as a detector: phrases to boxes as transformers' own post-processing has them, on a small random model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models import sam3_text
from pipeline.models.detections import DetectSettings, clipped
from schemas.errors import BadInput
from tests.cases.model_cases import picture, write_sam3, write_sam3_tracker

ALL = DetectSettings(box_threshold=0, score_threshold=0, nms_iou=1, max_detections=1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the searching half; never changed."""
    torch.set_num_threads(1)
    return write_sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def detector(folder: Path) -> sam3_text.Sam3Detector:
    """One for all tests; never changed."""
    return sam3_text.load(folder, settings=ALL)


@pytest.fixture
def own_detector(folder: Path) -> sam3_text.Sam3Detector:
    """One to change."""
    return sam3_text.load(folder, settings=ALL)


def test_boxes_are_those_of_transformers_own_post_processing(detector: sam3_text.Sam3Detector) -> None:
    from transformers import Sam3Processor

    processor: Any = Sam3Processor(detector._processor, detector._tokenizer)
    image = picture(80, 60)
    for index, phrase in enumerate(["a cat", "dog"]):
        inputs = processor(images=image, text=phrase, return_tensors="pt")
        with torch.inference_mode():
            answer = detector._model(**{name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask")})
        theirs = processor.post_process_object_detection(answer, threshold=0, target_sizes=[(60, 80)])[0]
        order = theirs["scores"].argsort(descending=True)
        ours = [one for one in detector.detect([image], [["a cat", "dog"]])[0] if one.phrase == index]
        assert [one.score for one in ours] == pytest.approx(theirs["scores"][order].tolist(), abs=1e-4)
        boxes = clipped(theirs["boxes"][order].numpy(), 80, 60)
        assert np.array([one.box for one in ours]) == pytest.approx(boxes, abs=80e-4)


def test_an_image_is_seen_alike_alone_and_in_company(detector: sam3_text.Sam3Detector) -> None:
    images, asked = [picture(80, 60, seed) for seed in range(3)], [["cat"], [], ["dog", " ", "a red cup"]]
    together = detector.detect(images, asked)
    assert [len(found) for found in together] == [10, 0, 20]
    assert {one.phrase for one in together[2]} == {0, 2}
    for image, phrases, found in zip(images, asked, together, strict=True):
        (alone,) = detector.detect([image], [phrases])
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], abs=1e-4)


def test_nothing_found_is_an_empty_list(folder: Path) -> None:
    detector = sam3_text.load(folder, settings=DetectSettings(box_threshold=1))
    assert detector.detect([picture(20, 20)], [["cat"]]) == [[]]


def test_a_long_phrase_is_cut_to_what_the_model_reads(detector: sam3_text.Sam3Detector) -> None:
    assert len(detector.detect([picture(20, 20)], [["word " * 200]])[0]) == 10


def test_nan_from_the_model_names_it(own_detector: sam3_text.Sam3Detector) -> None:
    for weight in own_detector._model.dot_product_scoring.parameters():
        weight.data.fill_(float("nan"))
    with pytest.raises(BadInput, match=r"^sam3 sha256:[0-9a-f]{16}: answered 10 of 10 scores that are NaN"):
        own_detector.detect([picture(20, 20)], [["cat"]])


def test_out_of_memory_halves_the_pairs(own_detector: sam3_text.Sam3Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [["cat", "dog", "cup"], ["red", "blue"]]
    images = [picture(80, 60), picture(80, 60, 1)]
    whole, answer, sizes = own_detector.detect(images, asked), own_detector._score_phrases, []

    def short_of_memory(seen: Any, rows: Any, phrases: Any) -> Any:
        sizes.append(len(phrases))
        if len(phrases) > 2:
            raise torch.OutOfMemoryError("tried to allocate")
        return answer(seen, rows, phrases)

    monkeypatch.setattr(own_detector, "_score_phrases", short_of_memory)
    halved = own_detector.detect(images, asked)
    assert sizes == [5, 3, 2, 2, 1]
    sizes.clear()
    own_detector.detect(images, asked)
    assert sizes == [2, 2, 1]
    for one, other in zip(whole, halved, strict=True):
        assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-4)


def test_what_is_missing_or_another_model_is_named(folder: Path, tmp_path: Path) -> None:
    for name, fault in (
        ("config.json", "config.json: does not exist"),
        ("model.safetensors", "model.safetensors: does not exist"),
        ("preprocessor_config.json", "holds no image processor"),
        ("vocab.json", "holds no tokenizer"),
    ):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / name).unlink()
        with pytest.raises(BadInput) as error:
            sam3_text.load(copy)
        assert fault in str(error.value)
        assert sam3_text.PAGE in str(error.value)
    with pytest.raises(BadInput, match="holds a model of type 'sam3_tracker', expected sam3 or sam3_video"):
        sam3_text.load(write_sam3_tracker(tmp_path / "tracker"))


def test_a_corrupt_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:2000])
    with pytest.raises(BadInput, match="holds no model that can be loaded"):
        sam3_text.load(copy)
