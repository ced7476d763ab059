"""Agreement: coefficients against hand-worked cases and the libraries, degenerate cases, and the whole record."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.agreement import measure_agreement, resamples
from annotation.raters.answers import DIMENSIONS, table
from annotation.raters.coefficients import (
    CONSTANT,
    FEW,
    ONE_RATER,
    alpha_figure,
    alpha_parts,
    alphas,
    coincidences,
    complete_block,
    icc_figure,
    kappa_figure,
    level_counts,
)
from annotation.raters.consensus import consensus, current, fit_panel, method_of
from annotation.raters.simulated import panel, rate
from schemas.agreement import Agreement, Figure
from schemas.score import Annotation
from tests.cases.examples import few_examples
from tests.cases.mask_cases import box_rle, outlined
from tests.cases.rater_cases import annotation, scores, truths

NAN = float("nan")
ONE_CLUSTER = np.ones((1, 50))


def _alone(levels: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels (U, R), each question a cluster of its own, and 20 resamples."""
    table_ = np.array(levels, dtype=np.float64)
    return table_, np.arange(len(table_)), resamples(len(table_), 20)


def test_alpha_by_hand() -> None:
    """Two raters, four questions: 0-0, 0-4, 4-4, 4-4. Pairs: 00 2, 04 and 40 one each, 44 4; totals 3 and 5.

    Two levels alone are as far apart as can be, so ordinal is nominal: 1 - (8 - 1) * 2 / (2 * 3 * 5) = 16/30.
    """
    levels, cluster, weights = _alone([[0, 0], [0, 4], [4, 4], [4, 4]])
    assert alpha_figure(level_counts(levels), cluster, weights).value == pytest.approx(16 / 30, abs=1e-6)


def test_kappa_by_hand() -> None:
    """x 0 0 4 4 4, y 0 4 4 4 4: squared distance 16/5 on average; by chance E x² + E y² - 2 E x E y."""
    levels, cluster, weights = _alone([[0, 0], [0, 4], [4, 4], [4, 4], [4, 4]])
    chance = 16 * 3 / 5 + 16 * 4 / 5 - 2 * (12 / 5) * (16 / 5)
    found, pairs = kappa_figure(levels, cluster, weights)
    assert (found.value, pairs) == (pytest.approx(1 - (16 / 5) / chance, abs=1e-6), 1)


def test_icc_by_hand() -> None:
    """The second rater is a level higher on all: rows explain everything but the raters' means.

    Means .5 1.5 2.5 3.5 2: MS rows 2 * 5 / 4 = 2.5, MS raters 5 * 2 * .25 = 2.5, MS error 0: 2.5 / (2.5 + 2 * 2.5 / 5).
    """
    levels, cluster, weights = _alone([[0, 1], [1, 2], [2, 3], [3, 4], [1.5, 2.5]])
    assert icc_figure(levels, cluster, weights).value == pytest.approx(2.5 / 3.5, abs=1e-6)


LEVELS = st.integers(2, 4).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 4), min_size=n, max_size=n), min_size=6, max_size=12)
)


@few_examples
@given(LEVELS, st.integers(0, 100))
def test_the_order_of_raters_and_questions_changes_nothing(levels: list[list[int]], seed: int) -> None:
    one = np.array(levels, dtype=np.float64)
    one[0, 0] = NAN
    other = np.random.default_rng(seed).permutation(one, axis=1)[::-1]
    cluster, weights = np.arange(len(one)), resamples(len(one), 2)
    for figure in (
        lambda rows: alpha_figure(level_counts(rows), cluster, weights),
        lambda rows: kappa_figure(rows, cluster, weights)[0],
        lambda rows: icc_figure(rows[~np.isnan(rows).any(axis=1)], cluster[1:], weights),
    ):
        first, second = figure(one), figure(other)
        assert (first.value is None) == (second.value is None)
        assert first.value is None or first.value == pytest.approx(second.value, abs=1e-5)
        assert first.value is None or first.value <= 1


@few_examples
@given(LEVELS)
def test_the_products_of_matrices_are_what_the_libraries_say(levels: list[list[int]]) -> None:
    import krippendorff
    import pingouin

    rows = np.array(levels, dtype=np.float64)
    counts = level_counts(rows)
    if np.ptp(rows) == 0:
        return
    own = alphas(coincidences(counts).sum(axis=0).reshape(1, 5, 5))[0]
    library = krippendorff.alpha(reliability_data=rows.T, level_of_measurement="ordinal")
    assert own == pytest.approx(library, abs=1e-9)
    questions, raters = np.indices(rows.shape)
    long = pd.DataFrame({"q": questions.ravel(), "r": raters.ravel(), "level": rows.ravel()})
    found = icc_figure(rows, np.arange(len(rows)), resamples(len(rows), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pingouin.intraclass_corr(long, targets="q", raters="r", ratings="level").set_index("Type")
    expected = float(theirs.loc["ICC(A,1)", "ICC"])
    assert found.value is None or np.isnan(expected) or found.value == pytest.approx(expected, abs=1e-5)


def test_a_resample_is_the_coefficient_of_the_rows_that_it_draws() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, (30, 1))
    levels = np.clip(truth + rng.integers(-1, 2, (30, 3)), 0, 4).astype(np.float64)
    weights = resamples(10, 1)
    cluster = np.repeat(np.arange(10), 3)
    drawn = np.repeat(np.arange(30), weights[1].astype(int)[cluster])
    twice = np.vstack([weights[0], weights[1], weights[1]])
    found = alpha_figure(level_counts(levels), cluster, twice)
    again = alpha_figure(level_counts(levels[drawn]), np.zeros(30, dtype=int), np.ones((1, 1)))
    assert found.low == found.high == pytest.approx(again.value, abs=1e-6)
    pair = kappa_figure(levels[:, :2], cluster, twice)[0]
    expected = cohen_kappa_score(*levels[drawn, :2].T.astype(int), labels=range(5), weights="quadratic")
    assert pair.low == pytest.approx(expected, abs=1e-6)
    again = icc_figure(levels[drawn], np.zeros(30, dtype=int), np.ones((1, 1)))
    assert icc_figure(levels, cluster, twice).low == pytest.approx(again.value, abs=1e-6)


@pytest.mark.parametrize(
    ("levels", "alpha", "icc", "kappa"),
    [
        ([[1], [2], [3], [4], [0]], ONE_RATER, ONE_RATER, ONE_RATER),
        ([[2, 2]] * 6, CONSTANT, CONSTANT, CONSTANT),
        ([[1, NAN], [NAN, 2], [3, NAN]] * 3, ONE_RATER, ONE_RATER, ONE_RATER),
        ([[0, 1], [2, 3]], "", FEW, FEW),
        ([[NAN, NAN]] * 6, ONE_RATER, ONE_RATER, ONE_RATER),
    ],
)
def test_what_cannot_be_computed_says_why(levels: list[list[float]], alpha: str, icc: str, kappa: str) -> None:
    rows, cluster, weights = _alone(levels)
    block = complete_block(rows)
    found = (
        alpha_figure(level_counts(rows), cluster, weights),
        icc_figure(rows[np.ix_(*block)], cluster[block[0]], weights),
        kappa_figure(rows, cluster, weights)[0],
    )
    for figure, reason in zip(found, (alpha, icc, kappa), strict=True):
        assert (figure.value is None, figure.reason) == (bool(reason), reason)


def test_one_candidate_has_no_interval() -> None:
    levels, _, _ = _alone([[0, 1], [2, 3], [4, 4]])
    found = alpha_figure(level_counts(levels), np.zeros(3, dtype=int), resamples(1, 5))
    assert found.value is not None
    assert (found.low, found.high, found.reason) == (None, None, "one candidate or source has no interval")


def test_the_interval_narrows_with_more_candidates() -> None:
    widths = []
    for n in (20, 400):
        rng = np.random.default_rng(n)
        levels = np.clip(rng.integers(0, 5, (n, 1)) + rng.integers(-1, 2, (n, 4)), 0, 4).astype(np.float64)
        found = alpha_figure(level_counts(levels), np.arange(n), resamples(n, 200))
        assert found.low is not None
        assert found.high is not None
        assert found.low < (found.value or 0) < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_the_complete_block_has_the_most_answers() -> None:
    levels = np.array([[1, 1, NAN], [1, 1, NAN], [1, 1, 1], [1, NAN, 1]])
    questions, raters = complete_block(levels)
    assert (questions.tolist(), raters.tolist()) == ([0, 1, 2], [0, 1])
    assert complete_block(np.array([[1.0, NAN], [NAN, 1.0]]))[0].tolist() == []


def _standing(n: int = 60, n_raters: int = 4) -> dict[str, list[Annotation]]:
    raters = panel(n_raters, seed=5)
    return {
        case.candidate: current([annotation(rate(rater, case, index)) for rater in raters])
        for index, case in enumerate(truths(n))
    }


def _measured(standing: dict[str, list[Annotation]], **how: object) -> Agreement:
    model = fit_panel(standing)
    return measure_agreement(standing, "one", method_of(model), model, samples=20, **how)  # type: ignore[arg-type]


def test_the_whole_record_is_the_same_in_any_order_and_is_read_back() -> None:
    standing = _standing()
    found = _measured(standing)
    turned = {candidate: rows[::-1] for candidate, rows in reversed(standing.items())}
    assert _measured(turned) == found
    assert Agreement.from_json(found.model_dump_json(), thing="agreement") == found
    assert (found.n_annotations, found.n_candidates, found.synthetic, found.bootstrap) == (240, 60, True, "candidates")
    assert all(row.alpha.value is not None and row.alpha.value > 0.5 for row in found.dimensions)
    assert [row.alpha.reason for row in found.issues] == [CONSTANT] * 6
    assert found.mask_iou.value is None
    sources = {candidate: f"source-{number // 10}" for number, candidate in enumerate(sorted(standing))}
    assert _measured(standing, sources=sources).bootstrap == "sources"


@pytest.mark.parametrize("standing", [{}, {"c" * 16: [annotation(scores(None, "c" * 16, [], "a"))]}])
def test_nothing_to_compare_is_a_record_of_reasons(standing: dict[str, list[Annotation]]) -> None:
    found = _measured(standing)
    figures = [getattr(row, name) for row in found.dimensions for name in ("alpha", "icc", "kappa")]
    assert {(figure.value, figure.reason) for figure in figures} == {(None, ONE_RATER)}
    assert found.raters_reason


def test_who_was_skipped_or_could_not_judge_is_counted_and_not_compared() -> None:
    standing = _standing(n=30)
    first = next(iter(standing))
    standing[first] = [row.model_copy(update={"state": "cannot_judge"}) for row in standing[first]]
    found = _measured(standing)
    assert (found.n_not_judged, found.dimensions[2].n_questions) == (4, 29)
    assert {row.n_not_judged for row in found.raters} == {1}


def test_issues_are_compared_region_by_region() -> None:
    standing = {}
    for number in range(4):
        candidate = f"{number:016x}"
        rows = [scores(13, candidate, ["a" * 16], rater) for rater in "ab"]
        named = [("spill",) if number < 2 else (), ("spill",) if number < 1 else ()]
        standing[candidate] = current(
            annotation(row.model_copy(update={"regions": (row.regions[0].model_copy(update={"issues": issues}),)}))
            for row, issues in zip(rows, named, strict=True)
        )
    found = {row.issue: row for row in _measured(standing).issues}
    # named by both, by one, by none, by none: 1 - 7 * 2 / (2 * 3 * 5)
    assert found["spill"].alpha.value == pytest.approx(1 - 14 / 30, abs=1e-6)
    assert (found["spill"].n_named, found["spill"].n_regions) == (3, 4)
    assert found["missed"].alpha.reason == CONSTANT


def test_mask_overlap_is_the_mean_over_pairs() -> None:
    region = "a" * 16
    rows = [
        outlined("a", {region: box_rle(0, 0, 10, 10)}),
        outlined("b", {region: box_rle(0, 0, 10, 5)}),
        outlined("c", {region: box_rle(0, 0, 10, 10)}),
    ]
    found = _measured({rows[0].scores.candidate: current(rows)})
    assert (found.mask_iou.value, found.n_mask_pairs) == (pytest.approx((0.5 + 0.5 + 1) / 3, abs=1e-6), 3)


def test_a_regions_part_of_alpha_adds_up_to_alpha() -> None:
    """With as many answers on each question, alpha is the mean of the regions' parts."""
    raters = tuple(rater.model_copy(update={"missing": 0.0}) for rater in panel(4, seed=5))
    standing = {
        case.candidate: current([annotation(rate(rater, case, index)) for rater in raters])
        for index, case in enumerate(truths(40))
    }
    model = fit_panel(standing)
    parts = [consensus(rows, "one", model).regions[0].agreement for rows in standing.values()]
    rows = {row.dimension: row.alpha.value for row in _measured(standing).dimensions}
    both = ((rows["region.success"] or 0) + (rows["region.preserve"] or 0)) / 2
    assert np.mean([part for part in parts if part is not None]) == pytest.approx(both, abs=1e-4)
    assert set(alpha_parts(table(standing))) == set(DIMENSIONS)


def test_a_figure_without_a_value_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Figure(value=None)
