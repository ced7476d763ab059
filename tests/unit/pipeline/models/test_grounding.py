"""Captions, token spans and boxes of the GroundingDINO adapters, with a model whose answers are written down here."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.models.detections import DetectSettings, Floats
from pipeline.models.grounding import (
    MAX_TOKENS,
    GroundingDetector,
    Pixels,
    Preprocessing,
    captions_of,
    phrase_text,
    preprocessed,
    raw_detections,
    scaled_size,
)
from schemas.errors import BadInput
from tests.cases.model_cases import picture

SMALL = Preprocessing(32, 64)


def offsets(text: str) -> Sequence[tuple[int, int]]:
    """A tokenizer: words of at most four characters, and stops; empty ones at both ends."""
    return [(0, 0), *(match.span() for match in re.finditer(r"\w{1,4}|\.", text)), (0, 0)]


class Written:
    """A `GroundingModel` that finds every token of a caption: query n on token n, in the n-th tenth of the image."""

    def __init__(self, score: float = 0.9, queries: int = 12, most: int = 99, bad: float | None = None) -> None:
        self.score, self.queries, self.most, self.bad = score, queries, most, bad
        self.shapes: list[tuple[int, ...]] = []
        self.refused = 0

    def answer(self, pixels: Pixels, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """Logits as written."""
        if len(captions) > self.most:
            self.refused += 1
            raise MemoryError
        self.shapes.append(pixels.shape)
        boxes = np.zeros((len(captions), self.queries, 4))
        for query in range(self.queries):
            boxes[:, query] = (query % 10 / 10 + 0.05, 0.05 + query // 10 / 100, 0.1, 0.1)
        logits = np.full((len(captions), self.queries, MAX_TOKENS), -np.inf)
        for row, caption in enumerate(captions):
            tokens = len(offsets(caption))
            logits[row, :, :tokens] = -9.0
            for query in range(min(self.queries, tokens)):
                logits[row, query, query] = np.log(self.score / (1 - self.score))
        if self.bad is not None:
            boxes[-1, 0, 0] = self.bad
        return boxes, logits


def detector(model: Written, **settings: float) -> GroundingDetector:
    return GroundingDetector("written", "1", model, offsets, DetectSettings(**settings), SMALL)  # type: ignore[arg-type]


def test_every_phrase_has_the_tokens_it_stands_on() -> None:
    (caption,) = captions_of(["Red CUP", " ", "elephant", "..."], offsets)
    assert caption.text == "red cup. elephant."
    assert caption.spans == ((0, (1, 3)), (2, (4, 6)))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("  The  Cat. ", "the cat"),
        ("a.b?c", "a b c"),
        ("[SEP] dog [CLS]", "sep dog cls"),
        ("杯子", "杯子"),
        ("x" * 300, "x" * 200),
        ("\n\t", ""),
    ],
)
def test_a_phrase_holds_nothing_that_would_end_it(given: str, text: str) -> None:
    assert phrase_text(given) == text


def test_many_phrases_take_several_captions_and_none_is_lost() -> None:
    phrases = [f"thing{n} word" for n in range(200)]
    captions = list(captions_of(phrases, offsets))
    assert len(captions) > 1
    assert all(len(offsets(caption.text)) <= MAX_TOKENS for caption in captions)
    assert [index for caption in captions for index, _ in caption.spans] == list(range(200))
    for caption in captions:
        tokens = offsets(caption.text)
        for index, (start, end) in caption.spans:
            assert caption.text[tokens[start][0] : tokens[end - 1][1]] == phrases[index]


def test_a_box_answers_the_phrase_whose_tokens_fit_it_all() -> None:
    (caption,) = captions_of(["red cup", "blue cup"], offsets)
    logits = np.full((1, 8), -5.0)
    logits[0, [1, 2, 5]] = 1.0, 2.0, 2.5  # "red", "cup" and the second "cup", which is the single best
    found = raw_detections(np.array([[0.5, 0.5, 0.2, 0.4]]), logits, caption, 100, 50)
    assert found.phrases.tolist() == [0]
    assert found.boxes.tolist() == [pytest.approx([40, 15, 60, 35])]
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert found.best[0] == pytest.approx(1 / (1 + np.exp(-2.5)))


def test_things_are_found_where_the_model_says() -> None:
    found = detector(Written()).detect([picture(100, 100)], [["cat", "dog"]])
    assert [(one.phrase, round(one.box[0])) for one in found[0]] == [(0, 10), (1, 30)]


def test_images_of_several_sizes_keep_their_places() -> None:
    images = [picture(100, 100), picture(50, 100), picture(100, 100)]
    model = Written()
    found = detector(model).detect(images, [["cat"], ["cat"], []])
    assert [[round(one.box[0]) for one in each] for each in found] == [[10], [5], []]
    assert sorted(model.shapes) == [(1, 3, 32, 32), (1, 3, 64, 32)]


def test_nothing_found_and_nothing_asked_are_empty() -> None:
    assert detector(Written(score=0.1)).detect([picture(9, 9)], [["cat"]]) == [[]]
    assert detector(Written()).detect([picture(9, 9)], [["", "?!"]]) == [[]]
    assert detector(Written()).detect([], []) == []


def test_of_300_detections_the_best_stay() -> None:
    phrases = [f"t{n}" for n in range(300)]
    found = detector(Written(queries=250), max_detections=40, nms_iou=1).detect([picture(60, 60)], [phrases])
    assert len(found[0]) == 40


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_from_a_model_names_it(bad: float) -> None:
    with pytest.raises(BadInput, match=r"^written 1: answered 1 of 48 boxes that are NaN"):
        detector(Written(bad=bad)).detect([picture(60, 60)], [["cat"]])


def test_nan_among_scores_names_the_model_and_padding_does_not() -> None:
    with pytest.raises(BadInput, match=r"^written 1: answered 1 of 12 scores"):
        detector(Written(score=float("nan"), queries=12)).detect([picture(60, 60)], [["cat"]])


def test_out_of_memory_gives_the_same_answers_in_smaller_batches() -> None:
    images, phrases = [picture(60, 60, seed) for seed in range(5)], [["cat", "dog"]] * 5
    whole, halved = Written(), Written(most=2)
    short_of_memory = detector(halved, batch_size=8)
    assert short_of_memory.detect(images, phrases) == detector(whole, batch_size=8).detect(images, phrases)
    assert len(whole.shapes) == 1
    assert len(halved.shapes) == 3
    halved.refused = 0
    short_of_memory.detect(images, phrases)
    assert halved.refused == 0


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((20, 20), (800, 800)),
        ((8000, 6000), (1067, 800)),
        ((8000, 20), (1200, 3)),
        ((1, 8000), (1, 1333)),
        ((1333, 800), (1333, 800)),
    ],
)
def test_images_of_any_size_are_fitted(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    width_px, height_px = scaled_size(*size, Preprocessing())
    assert abs(width_px - fitted[0]) <= 1
    assert abs(height_px - fitted[1]) <= 1


def test_pixels_are_normalised() -> None:
    pixels = preprocessed(np.full((4, 6, 3), 255, np.uint8), (3, 2), Preprocessing())
    assert pixels.shape == (3, 2, 3)
    assert pixels[:, 0, 0].tolist() == pytest.approx(
        [(1 - m) / s for m, s in zip(Preprocessing().mean, Preprocessing().std, strict=True)]
    )


def test_every_image_needs_its_phrases() -> None:
    with pytest.raises(ValueError, match="zip"):
        detector(Written()).detect([picture(9, 9)], [])
