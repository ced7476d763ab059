"""The report's section on a trained reward: curves, calibration, localisation beside rivals, best and worst examples.

From the files in `<run>/reward` alone (`schemas.reward`); each part is there when its file is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from pipeline.report.figures import Chart, Number
from pipeline.report.images import Pictures, outline
from pipeline.report.plots import Point, against_diagonal, curves, interval
from runtime.masks import mask_box, rle_to_mask
from schemas.errors import DamagedFile
from schemas.reward import (
    BACKGROUND,
    AurocRow,
    ExamplePlace,
    ProbeRow,
    RewardExample,
    RewardMetrics,
    TrainingCurves,
    TwinRow,
)
from schemas.score import SCORE_MAX

Found = TypeVar("Found", RewardMetrics, TrainingCurves)

OWN, MACRO = "reward", "macro"
ABSENT = "\u2013"
EXAMPLES = 6
N_CLASSES = 5
RIVAL_NAMES = {
    "pixel_difference": "pixel difference",
    "pixel_change": "pixel change",
    "untrained": "untrained network",
    "source_blind": "without the source",
    "instruction_blind": "without the instruction",
}
PROBE_NAMES = {
    "source_swapped": "another request's source",
    "source_dropped": "a grey source",
    "instruction_swapped": "another request's instruction",
    "masks_permuted": "masks change places",
    "mirrored": "both images mirrored",
}


@dataclass(frozen=True)
class Cell:
    """An AUROC in the table. grade: 0..4 for its colour; beaten: the reward is better beyond chance; note: its gap."""

    text: str
    grade: int | None
    beaten: bool = False
    note: str = ""


@dataclass(frozen=True)
class DefectView:
    """One row of the localisation table. weak: the reward at the weakest strengths."""

    name: str
    left_out: bool
    n: str
    chart: Markup
    own: Cell
    weak: Cell
    rivals: tuple[Cell, ...]


@dataclass(frozen=True)
class PlaceView:
    """A region or the background of an example. colour: class by predicted phi; mark: its number, '' for background."""

    place: ExamplePlace
    mark: str
    colour: str
    path: str
    mark_x: float
    mark_y: float


@dataclass(frozen=True)
class ExampleView:
    """A tested candidate in pictures: names on the page, drawn `width` by `height`."""

    example: RewardExample
    source: str
    edited: str
    width: int
    height: int
    places: tuple[PlaceView, ...]


def reward_data(run: Path, pictures: Pictures) -> dict[str, Any] | None:
    """What the section's template needs; None where the run has no reward. Raises: BadInput, DamagedFile."""
    folder = run / "reward"
    metrics = _read(RewardMetrics, folder / "metrics.json")
    training = _read(TrainingCurves, folder / "curves.json")
    examples = _examples(folder, pictures)
    if metrics is None and training is None and not examples:
        return None
    rivals = list(metrics.rivals) if metrics else []
    return {
        "metrics": metrics,
        "start": training.start if training else "fresh",
        "numbers": _numbers(metrics) if metrics else [],
        "rivals": [RIVAL_NAMES.get(name, name) for name in rivals],
        "defects": _defects(metrics, rivals) if metrics else [],
        "finders": _finders(metrics) if metrics else [],
        "probes": [(PROBE_NAMES.get(row.probe, row.probe), row, _meaning(row)) for row in metrics.probes]
        if metrics
        else [],
        "charts": [*(_calibration_charts(metrics) if metrics else []), *(_curve_charts(training) if training else [])],
        "best": _chosen(examples, best=True),
        "worst": _chosen(examples, best=False),
    }


def _read(kind: type[Found], path: Path) -> Found | None:
    return kind.from_json(path.read_bytes(), thing=str(path)) if path.is_file() else None


def _numbers(metrics: RewardMetrics) -> list[Number]:
    tested = f"{metrics.n_candidates:,} candidates of {metrics.n_sources:,} sources"
    error = ABSENT if metrics.calibration_error is None else f"{metrics.calibration_error:.2f}"
    numbers = [
        Number("localisation AUROC", _share(metrics.localisation_auroc), _between(metrics, "localisation_auroc")),
        Number("candidates put in order", _percent(metrics.ranking_accuracy), f"of {metrics.n_ranked_pairs:,} pairs"),
        Number("calibration error", error, "points of 25, predicted against real error"),
        Number("scores given", _percent(metrics.coverage), f"{sum(metrics.missing.values()):,} missing"),
        Number("test pairs", f"{metrics.n_pairs:,}", tested),
    ]
    if metrics.left_out is not None:
        name = metrics.left_out.defect.replace("_", " ")
        numbers.append(
            Number("AUROC on an unseen defect", _share(metrics.left_out.auroc), f"{name}, kept out of training")
        )
    return numbers


def _share(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f} %"


def _between(metrics: RewardMetrics, name: str) -> str:
    ends = metrics.intervals.get(name)
    return f"{ends[0]:.3f} to {ends[1]:.3f}; 0.5 is chance" if ends else "0.5 is chance"


def _cell(row: AurocRow | None) -> Cell:
    if row is None or row.auroc is None:
        return Cell(ABSENT, None)
    return Cell(f"{row.auroc:.2f}", min(N_CLASSES - 1, max(0, int((row.auroc - 0.5) * 2 * N_CLASSES))))


def _defects(metrics: RewardMetrics, rivals: Sequence[str]) -> list[DefectView]:
    """The table's rows: macro, then every defect, the least well seen first."""
    rows = {(row.reward, row.defect, row.band): row for row in metrics.table if row.place == "all"}
    gaps = {(row.rival, row.defect): row for row in metrics.gaps}
    known = metrics.localisation_auroc_by_defect
    order = sorted(known, key=lambda name: (known[name] is None, known[name] or 0, name))
    views = []
    for defect in (MACRO, *order):
        own = rows.get((OWN, defect, "all"))
        cells = []
        for rival in rivals:
            cell, gap = _cell(rows.get((rival, defect, "all"))), gaps.get((rival, defect))
            if gap is not None and gap.gap is not None and gap.low is not None and gap.high is not None:
                note = f"reward ahead by {gap.gap:.2f} ({gap.low:.2f} to {gap.high:.2f})"
                cell = Cell(cell.text, cell.grade, gap.low > 0, note)
            cells.append(cell)
        chart = interval(own.auroc, own.low, own.high) if own is not None and own.auroc is not None else Markup(ABSENT)
        views.append(
            DefectView(
                name="all, each kind alike" if defect == MACRO else defect.replace("_", " "),
                left_out=metrics.left_out is not None and metrics.left_out.defect == defect,
                n=f"{own.n_defective:,} / {own.n_sound:,}" if own is not None else "",
                chart=chart,
                own=_cell(own),
                weak=_cell(rows.get((OWN, defect, "weak"))),
                rivals=tuple(cells),
            )
        )
    return views


def _finders(metrics: RewardMetrics) -> list[tuple[str, TwinRow | None, TwinRow | None]]:
    """Reward and rivals: how often the flawed place has the lowest score, and falls most against the clean twin."""
    named = {row.reward: row for row in metrics.named if row.defect == "all"}
    twins = {row.reward: row for row in metrics.twins if row.defect == "all"}
    names = {OWN: "the reward"} | {name: RIVAL_NAMES.get(name, name) for name in metrics.rivals}
    return [(title, named.get(name), twins.get(name)) for name, title in names.items()]


def _meaning(row: ProbeRow) -> str:
    """What the figures of a probe say of the reward, in words."""
    if row.follows is not None:
        return f"scores follow the masks: {row.follows:.2f} where the labels go with them"
    if row.low is None or row.high is None:
        return ""
    return "worse" if row.high < 0 else ("better" if row.low > 0 else "no difference beyond chance")


def _curve_charts(training: TrainingCurves) -> list[Chart]:
    """One plot for each name in the history; the total first."""
    names = list(dict.fromkeys(name for point in training.history for name in point if name != "step"))
    charts = []
    for name in sorted(names, key=lambda name: (name != "total", names.index(name))):
        line: list[Point] = [(point["step"], point[name]) for point in training.history if name in point]
        title = "Training loss" if name == "total" else f"Loss: {name.replace('_', ' ')}"
        charts.append(Chart(title, f"{line[0][1]:.3g} to {line[-1][1]:.3g}", curves({name: line}, "steps")))
    return charts


def _calibration_charts(metrics: RewardMetrics) -> list[Chart]:
    errors = [(one.expected_error, one.mean_error, one.n) for one in metrics.calibration]
    means = [(one.predicted, one.true, one.n) for one in metrics.reliability]
    high = max((max(x, y) for x, y, _ in errors), default=1.0)
    off = f"test scores, mean distance {metrics.reliability_error or 0:.2f} points"
    unsure = against_diagonal(errors, float(int(high) + 1), "error it expects", "error it makes")
    right = against_diagonal(means, SCORE_MAX, "predicted score", "true score")
    return [
        Chart("Does it know how wrong it is?", "bins of equal size; on the dashed line it does", unsure),
        Chart("Are its scores right on average?", off, right),
    ]


def _examples(folder: Path, pictures: Pictures) -> list[ExampleView]:
    """The examples that have pictures, in the order of the file. Raises: BadInput, DamagedFile."""
    path = folder / "predictions.jsonl"
    if not path.is_file():
        return []
    views = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        example = RewardExample.from_json(line, thing=f"{path} line {number}")
        if example.source_picture and example.edited_picture and example.margin is not None:
            views.append(_example(folder, example, example.source_picture, example.edited_picture, pictures))
    return views


def _example(folder: Path, example: RewardExample, source: str, edited: str, pictures: Pictures) -> ExampleView:
    shown = []
    for name in (source, edited):
        file = folder / name
        if not file.is_file():
            raise DamagedFile(str(file), "is missing", "test the reward anew")
        shown.append(pictures.share(f"reward {name}", file.read_bytes()))
    (before, width, height), (after, *_) = shown
    regions = [place for place in example.places if place.key != BACKGROUND]
    marks = {place.key: str(number) for number, place in enumerate(regions, 1)}
    views = tuple(_place(place, marks.get(place.key, ""), width, height) for place in example.places)
    return ExampleView(example, before, after, width, height, views)


def _place(place: ExamplePlace, mark: str, width: int, height: int) -> PlaceView:
    mask = rle_to_mask(place.mask)
    left, top, *_ = mask_box(mask) or (0, 0)
    x, y = left / mask.shape[1] * width, top / mask.shape[0] * height
    score = place.phi.mean
    grade = "none" if score is None else str(min(N_CLASSES - 1, int(score / SCORE_MAX * N_CLASSES)))
    path = outline(mask, width, height) if mark else ""
    return PlaceView(place, mark, f"s{grade}", path, min(max(5.0, x), width - 49), max(5.0, y - 16))


def _chosen(examples: Sequence[ExampleView], *, best: bool) -> list[ExampleView]:
    """At most six with the largest, or the smallest margins; none is among both."""
    order = sorted(examples, key=lambda view: view.example.margin or 0.0, reverse=best)
    return order[: min(EXAMPLES, (len(examples) + best) // 2)]
