"""The report's section on raters: how far they agree, what each one is like, and how they answer gold questions.

From `<run>/consensus/<snapshot>/agreement.json` alone (`schemas.agreement`); there when a snapshot has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from pipeline.dataset.consensus_files import AGREEMENT_FILE
from pipeline.dataset.scores import CONSENSUS
from pipeline.report.figures import Number
from pipeline.report.plots import interval
from schemas.agreement import Agreement, DimensionAgreement, Figure, GoldSummary, RaterSummary

ABSENT = "\u2013"
MAX_SNAPSHOTS = 4
MAX_RATERS = 40
N_CLASSES = 5
#: From here on a rater is shown as one who answers at random.
RANDOM_SHARE = 0.5
DIMENSION_NAMES = {
    "region.success": "region: success",
    "region.preserve": "region: preserve",
    "image.background": "background",
    "image.success": "image: success",
    "image.overedit": "image: overedit",
    "image.naturalness": "naturalness",
    "image.artifacts": "artefacts",
}


@dataclass(frozen=True)
class CoefficientView:
    """A coefficient in the table. grade: 0..4 for its colour; note: its interval, or why it is not there."""

    text: str
    note: str
    grade: int | None


@dataclass(frozen=True)
class DimensionView:
    """One row: a kind of question."""

    name: str
    n: str
    chart: Markup
    alpha: CoefficientView
    icc: CoefficientView
    kappa: CoefficientView


@dataclass(frozen=True)
class RaterView:
    """One row: a rater, its figures as text, and notes on it. gold: None without gold answers."""

    name: str
    answers: str
    bias: str
    harshness: str
    noise: str
    random: str
    notes: tuple[str, ...]
    gold: str


@dataclass(frozen=True)
class SnapshotView:
    """One snapshot's agreement."""

    found: Agreement
    numbers: tuple[Number, ...]
    dimensions: tuple[DimensionView, ...]
    issues: tuple[tuple[str, int, CoefficientView], ...]
    raters: tuple[RaterView, ...]
    more_raters: int
    in_dataset: bool


def agreement_data(run: Path, scores: str) -> dict[str, Any] | None:
    """What the section's template needs; None where no snapshot has its agreement. scores: the dataset's source.

    The snapshot that the dataset is scored from comes first, then the others by name. Raises: BadInput.
    """
    paths = sorted((run / "consensus").glob(f"*/{AGREEMENT_FILE}"))
    if not paths:
        return None
    chosen = scores.removeprefix(CONSENSUS) if scores.startswith(CONSENSUS) else None
    order = sorted(paths, key=lambda path: (path.parent.name != chosen, path.parent.name))
    found = [Agreement.from_json(path.read_bytes(), thing=str(path)) for path in order[:MAX_SNAPSHOTS]]
    views = [_snapshot(one, one.snapshot == chosen) for one in found]
    return {"snapshots": views, "more": len(paths) - len(views)}


def _snapshot(found: Agreement, in_dataset: bool) -> SnapshotView:
    gold = {one.rater: one for one in found.gold}
    copying = {name for pair in found.copies for name in (pair.first, pair.second)}
    return SnapshotView(
        found=found,
        numbers=tuple(_numbers(found)),
        dimensions=tuple(_dimension(row) for row in found.dimensions),
        issues=tuple((row.issue.replace("_", " "), row.n_named, _view(row.alpha)) for row in found.issues),
        raters=tuple(_rater(row, gold.get(row.rater), copying) for row in found.raters[:MAX_RATERS]),
        more_raters=max(0, len(found.raters) - MAX_RATERS),
        in_dataset=in_dataset,
    )


def _numbers(found: Agreement) -> Sequence[Number]:
    alphas = [row.alpha.value for row in found.dimensions if row.alpha.value is not None]
    used = f"of {found.n_used:,} candidates" if found.n_used < found.n_candidates else ""
    mean = f"{fmean(alphas):.2f}" if alphas else ABSENT
    masks = _view(found.mask_iou)
    return (
        Number("annotations", f"{found.n_annotations:,}", f"{found.n_not_judged:,} skipped or not to be judged"),
        Number("raters", f"{len(found.raters):,}", "simulated ones among them" if found.synthetic else ""),
        Number("candidates", f"{found.n_candidates:,}", used and f"figures {used}"),
        Number("mean alpha", mean, f"over {len(alphas)} of {len(found.dimensions)} kinds of question"),
        Number("mask IoU between raters", masks.text, masks.note),
    )


def _dimension(row: DimensionAgreement) -> DimensionView:
    alpha = row.alpha
    chart = Markup("") if alpha.value is None else interval(alpha.value, alpha.low, alpha.high, chance=0)
    icc = _view(row.icc, f"{row.icc_questions:,} questions of {row.icc_raters} raters")
    kappa = _view(row.kappa, f"{row.kappa_pairs} pairs")
    name = DIMENSION_NAMES[row.dimension]
    return DimensionView(name, f"{row.n_questions:,} by {row.n_raters}", chart, _view(alpha), icc, kappa)


def _view(figure: Figure, more: str = "") -> CoefficientView:
    if figure.value is None:
        return CoefficientView(ABSENT, figure.reason, None)
    ends = "" if figure.low is None or figure.high is None else f"{figure.low:.2f} to {figure.high:.2f}"
    grade = min(N_CLASSES - 1, max(0, int(figure.value * N_CLASSES)))
    return CoefficientView(
        f"{figure.value:.2f}", ", ".join(part for part in (ends or figure.reason, more) if part), grade
    )


def _rater(row: RaterSummary, gold: GoldSummary | None, copying: set[str]) -> RaterView:
    notes = []
    if (row.random_share or 0) >= RANDOM_SHARE:
        notes.append("answers at random")
    if row.rater in copying:
        notes.append("same answers as another")
    if gold is not None and gold.random:
        notes.append(f"random by gold, after {gold.found_after} answers")
    return RaterView(
        name=row.rater,
        answers=f"{row.n_answers:,}",
        bias=_with_error(row.bias, row.bias_error, signed=True),
        harshness=_with_error(row.harshness, row.harshness_error),
        noise=ABSENT if row.noise is None else f"{row.noise:.1f}",
        random=ABSENT if row.random_share is None else f"{100 * row.random_share:.0f} %",
        notes=tuple(notes),
        gold=_gold(gold),
    )


def _with_error(value: float | None, error: float | None, signed: bool = False) -> str:
    if value is None:
        return ABSENT
    shown = f"{value:+.1f}" if signed else f"{value:.2f}"
    return shown if error is None else f"{shown} ± {error:.1f}" if signed else f"{shown} ± {error:.2f}"


def _gold(gold: GoldSummary | None) -> str:
    if gold is None or gold.near is None:
        return ABSENT
    drift = "" if gold.drift.value is None else f", drift {gold.drift.value:+.1f}"
    return f"{100 * gold.near:.0f} % near of {gold.n_answers:,}{drift}"
