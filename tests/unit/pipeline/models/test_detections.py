"""What all detectors share: which boxes stay, and in what order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.detections import DetectSettings, RawDetections, box_iou, check_finite, select_detections
from schemas.errors import BadInput

ALL = DetectSettings(box_threshold=0, score_threshold=0, nms_iou=1, max_detections=1000)


def found(*rows: tuple[tuple[float, float, float, float], float, int]) -> RawDetections:
    """Boxes with a score and a phrase each."""
    boxes, scores, phrases = zip(*rows, strict=True)
    return RawDetections(
        np.array(boxes, float), np.array(scores, float), np.array(scores, float), np.array(phrases, np.intp)
    )


def test_the_best_come_first_and_the_weak_go() -> None:
    given = found(((0, 0, 9, 9), 0.5, 0), ((20, 20, 30, 30), 0.9, 1), ((40, 40, 50, 50), 0.2, 0))
    assert [(one.score, one.phrase) for one in select_detections([given], 64, 64, DetectSettings())] == [
        (0.9, 1),
        (0.5, 0),
    ]


def test_a_box_needs_its_phrase_and_its_best_token() -> None:
    both = RawDetections(
        np.array([[0, 0, 9, 9.0]] * 2), np.array([0.4, 0.3]), np.array([0.2, 0.3]), np.zeros(2, np.intp)
    )
    assert select_detections([both], 64, 64, DetectSettings()) == []
    assert len(select_detections([both], 64, 64, DetectSettings(box_threshold=0.3))) == 1
    assert len(select_detections([both], 64, 64, DetectSettings(score_threshold=0.2))) == 1


def test_boxes_are_cut_to_the_image_and_what_is_left_of_nothing_goes() -> None:
    given = found(
        ((-5, -5, 70, 10), 0.9, 0), ((64, 0, 80, 9), 0.8, 0), ((5, 5, 5.2, 9), 0.7, 0), ((9, 9, 3, 3), 0.6, 0)
    )
    assert [one.box for one in select_detections([given], 64, 32, ALL)] == [(0, 0, 64, 10)]


def test_a_box_of_one_pixel_stays() -> None:
    assert [one.box for one in select_detections([found(((3, 4, 4, 5), 0.9, 0))], 64, 64, ALL)] == [(3, 4, 4, 5)]


def test_doubles_go_within_a_phrase_alone() -> None:
    given = found(((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 9), 0.8, 0), ((0, 0, 10, 9), 0.7, 1))
    kept = select_detections([given], 64, 64, DetectSettings(nms_iou=0.8))
    assert [(one.score, one.phrase) for one in kept] == [(0.9, 0), (0.7, 1)]
    assert len(select_detections([given], 64, 64, DetectSettings(nms_iou=0.95))) == 3


def test_of_300_boxes_the_best_stay() -> None:
    many = found(*(((n % 20 * 3, n // 20 * 3, n % 20 * 3 + 2, n // 20 * 3 + 2), 0.4 + n / 1000, 0) for n in range(300)))
    kept = select_detections([many], 64, 64, DetectSettings(max_detections=50))
    assert [round(one.score * 1000) for one in kept] == list(range(699, 649, -1))


def test_nothing_found_is_an_empty_list() -> None:
    empty = RawDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros(0, np.intp))
    assert select_detections([], 8, 8, ALL) == select_detections([empty], 8, 8, ALL) == []


def test_iou() -> None:
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]], float)
    assert box_iou(np.array([0, 0, 2, 2.0]), others).tolist() == pytest.approx([1, 1 / 3, 0, 0])


@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.floats(-50, 150)] * 4), st.floats(0, 1), st.integers(0, 3)
        ),
        min_size=1,
        max_size=30,
    )
)  # fmt: skip
def test_whatever_a_model_answers_the_kept_boxes_lie_in_the_image(
    rows: list[tuple[tuple[float, float, float, float], float, int]],
) -> None:
    settings = DetectSettings(0.1, 0.1, 0.5, 5)
    kept = select_detections([found(*rows)], 100, 80, settings)
    assert len(kept) <= 5
    assert [one.score for one in kept] == sorted((one.score for one in kept), reverse=True)
    for one in kept:
        x1, y1, x2, y2 = one.box
        assert 0 <= x1 < x2 <= 100
        assert 0 <= y1 < y2 <= 80
    for first in kept:
        for other in kept:
            if first is not other and first.phrase == other.phrase:
                assert box_iou(np.array(first.box), np.array([other.box]))[0] <= 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_names_the_model(bad: float) -> None:
    check_finite("sam3 sha256:1", boxes=np.ones(3))
    with pytest.raises(BadInput, match=r"sam3 sha256:1: answered 1 of 3 boxes that are NaN"):
        check_finite("sam3 sha256:1", boxes=np.array([1, bad, 2]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("box_threshold", 1.1),
        ("nms_iou", float("nan")),
        ("max_detections", 0),
        ("batch_size", 2.5),
        ("score_threshold", -1),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"detector setting {name}"):
        DetectSettings(**{name: value})  # type: ignore[arg-type]
