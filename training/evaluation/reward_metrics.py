"""All tests of a reward together, as `metrics.json` holds them.

cases, unmade = scene_cases(100)
tested = evaluate(reward, cases, {"untrained": ..., "source_blind": ..., "instruction_blind": ...}, unmade=unmade)
write_metrics(folder, tested.metrics)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from runtime.bootstrap import Floats, Ints, resamples
from runtime.files import write_whole
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.reward import AurocRow, GapRow, LeftOut, PhotoRow, RewardMetrics, TwinRow
from training.evaluation.localisation import (
    MACRO,
    Localisation,
    falls,
    first_rows,
    gaps,
    lownesses,
    pairs_of,
    source_index,
)
from training.evaluation.localisation_cases import DefectCase
from training.evaluation.probes import PROBES, probe
from training.evaluation.ranking_calibration import calibration, ranking, reliability, scores_beside_truth
from training.predictions import ask, count_missing
from training.reward.pixel_difference import PixelDifference
from training.reward_protocol import Prediction, Reward

OWN = "reward"
PIXELS = "pixel_difference"
BOOTSTRAP_SAMPLES = 1000
PHOTOS_FILE = "photos.json"
_PHOTO_ROWS = TypeAdapter(tuple[PhotoRow, ...])


@dataclass(frozen=True)
class Examined:
    """A reward's figures and what it predicted: flawed candidates in the order of the cases, and their clean twins."""

    metrics: RewardMetrics
    flawed: list[Prediction]
    twins: list[Prediction]


@dataclass(frozen=True)
class _Answers:
    """One reward's predictions and its AUROCs."""

    name: str
    flawed: list[Prediction]
    twins: list[Prediction]
    localisation: Localisation


def evaluate(
    reward: Reward,
    cases: Sequence[DefectCase],
    rivals: Mapping[str, Reward],
    *,
    left_out: str | None = None,
    unmade: Mapping[str, int] | None = None,
    photos: Sequence[PhotoRow] = (),
    probe_cases: int | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> Examined:
    """Every test of `reward` on `cases`, with `rivals` and pixel difference on the same cases.

    rivals: name -> reward, as `untrained`, `source_blind`, `instruction_blind`. left_out: the defect that training
    never saw. probe_cases: the first so many cases are probed; all by default. Raises: ValueError without cases.
    """
    if not cases:
        raise ValueError("no test cases")
    sources = source_index(cases)
    weights = resamples(int(sources.max()) + 1, bootstrap_samples, seed)
    own = _answers(OWN, reward, cases, sources, weights)
    others = [_answers(name, rival, cases, sources, weights) for name, rival in _rivals(rivals).items()]
    table = [row for found in (own, *others) for row in found.localisation.table(found.name)]
    probed = cases[:probe_cases]
    probes = [
        probe(name, reward, probed, own.flawed[: len(probed)], sources[: len(probed)], weights) for name in PROBES
    ]
    order, n_ranked = ranking(cases, own.flawed, own.twins, sources, weights)
    beside = scores_beside_truth(cases, own.flawed, own.twins)
    calibration_error, calibration_bins = calibration(beside)
    reliability_error, reliability_bins = reliability(beside)
    coverage, missing = count_missing(own.flawed, [case.query for case in cases])
    pairs = own.localisation.pairs
    macro = _macro_row(table, OWN)
    intervals = {"localisation_auroc": (macro.low, macro.high), "ranking_accuracy": (order.low, order.high)}
    metrics = RewardMetrics(
        reward=f"{reward.name} {reward.revision}"[:200],
        synthetic=True,
        n_pairs=len(pairs.score),
        n_candidates=len(cases),
        n_sources=int(sources.max()) + 1,
        n_defective=int(pairs.defective.sum()),
        localisation_auroc=macro.auroc,
        localisation_auroc_by_defect={row.defect: row.auroc for row in _by_defect(table, OWN)},
        rivals={found.name: _macro_row(table, found.name).auroc for found in others},
        ranking_accuracy=order.value,
        n_ranked_pairs=n_ranked,
        calibration_error=calibration_error,
        reliability_error=reliability_error,
        coverage=coverage,
        missing=missing,
        left_out=_left_out(table, left_out),
        intervals={
            name: (low, high) for name, (low, high) in intervals.items() if low is not None and high is not None
        },
        table=tuple(table),
        gaps=_gaps(own, others),
        twins=tuple(row for found in (own, *others) for row in _twins(found, cases, sources, weights)),
        named=tuple(row for found in (own, *others) for row in _named(found, cases, sources, weights)),
        probes=tuple(probes),
        calibration=calibration_bins,
        reliability=reliability_bins,
        photos=tuple(photos),
        bootstrap_samples=bootstrap_samples,
        unmade=dict(unmade or {}),
    )
    return Examined(metrics, own.flawed, own.twins)


def photo_row(reward: Reward, photo: str, cases: Sequence[DefectCase]) -> PhotoRow:
    """The macro AUROC on one photograph of a reward that was trained without it."""
    sources = source_index(cases)
    pairs = pairs_of(cases, ask(reward, [case.query for case in cases]), sources)
    found = Localisation(pairs, resamples(int(sources.max()) + 1, 0, 0))
    return PhotoRow(photo=photo, n_pairs=len(pairs.score), auroc=found.row(OWN, MACRO).auroc)


def write_metrics(folder: Path, metrics: RewardMetrics) -> Path:
    """Writes `metrics.json` into `folder`, whole or not at all, and returns its path."""
    path = folder / "metrics.json"
    write_whole(path, metrics.model_dump_json(indent=1) + "\n")
    return path


def write_photos(folder: Path, rows: Sequence[PhotoRow]) -> Path:
    """Writes `photos.json` into `folder`, from which `metrics.json` gets its photographs, and returns its path."""
    path = folder / PHOTOS_FILE
    write_whole(path, _PHOTO_ROWS.dump_json(tuple(rows), indent=1) + b"\n")
    return path


def read_photos(folder: Path) -> tuple[PhotoRow, ...]:
    """What `write_photos` wrote; empty where nobody tested photographs. Raises: BadInput for a file that is none."""
    path = folder / PHOTOS_FILE
    if not path.is_file():
        return ()
    try:
        return _PHOTO_ROWS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInput(str(path), first_fault(error), "remove it, or measure the photographs again") from None


def _rivals(rivals: Mapping[str, Reward]) -> dict[str, Reward]:
    """Pixel difference (more change, fewer points) and its opposite `pixel_change`, then the given ones."""
    return {PIXELS: PixelDifference(), "pixel_change": PixelDifference(wants_change=True), **rivals}


def _answers(name: str, reward: Reward, cases: Sequence[DefectCase], sources: Ints, weights: Floats) -> _Answers:
    """Predictions for all cases; the clean twin of a request is asked about once."""
    flawed = ask(reward, [case.query for case in cases])
    first = {case.request.id: case.twin for case in cases}
    twins = dict(zip(first, ask(reward, list(first.values())), strict=True))
    localisation = Localisation(pairs_of(cases, flawed, sources), weights)
    return _Answers(name, flawed, [twins[case.request.id] for case in cases], localisation)


def _by_defect(table: Sequence[AurocRow], reward: str) -> list[AurocRow]:
    return [
        row
        for row in table
        if row.reward == reward and row.band == "all" and row.place == "all" and row.defect != MACRO
    ]


def _macro_row(table: Sequence[AurocRow], reward: str) -> AurocRow:
    empty = AurocRow(reward=reward, defect=MACRO, auroc=None, low=None, high=None, n_defective=0, n_sound=0)
    whole = (row for row in table if (row.reward, row.defect, row.band, row.place) == (reward, MACRO, "all", "all"))
    return next(whole, empty)


def _left_out(table: Sequence[AurocRow], defect: str | None) -> LeftOut | None:
    found = [row for row in _by_defect(table, OWN) if row.defect == defect]
    return (
        LeftOut(defect=found[0].defect, auroc=found[0].auroc, low=found[0].low, high=found[0].high) if found else None
    )


def _gaps(own: _Answers, others: Sequence[_Answers]) -> tuple[GapRow, ...]:
    return tuple(row for found in others for row in gaps(own.localisation, found.localisation, found.name))


def _twins(found: _Answers, cases: Sequence[DefectCase], sources: Ints, weights: Floats) -> list[TwinRow]:
    values = [falls(case, now, then) for case, now, then in zip(cases, found.flawed, found.twins, strict=True)]
    return first_rows(found.name, cases, values, sources, weights)


def _named(found: _Answers, cases: Sequence[DefectCase], sources: Ints, weights: Floats) -> list[TwinRow]:
    values = [lownesses(case, now) for case, now in zip(cases, found.flawed, strict=True)]
    return first_rows(found.name, cases, values, sources, weights)
