"""The report's numbers and charts: what stands in its head, and the distributions of scores, areas and kinds."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from pipeline.report.charts import bars, binned, histogram, score_histogram
from pipeline.report.entries import DatasetTally, Entry
from schemas.manifest import Manifest, StageCount
from schemas.score import SCORE_MAX

AREA_EDGES_PERCENT = (0, 0.3, 1, 3, 10, 30, 100)
STATUS_NAMES = {"changed": "changed as named", "unchanged": "named, unchanged", "unplanned": "changed, not named"}

#: key in the tally, title, upper bound
SCORES = (
    ("region.reward", "Region reward R", 1),
    ("region.phi", "Region φ", SCORE_MAX),
    ("region.success", "Region success", SCORE_MAX),
    ("region.preserve", "Region preserve", SCORE_MAX),
    ("image.background", "Background", SCORE_MAX),
    ("image.naturalness", "Naturalness", SCORE_MAX),
    ("image.artifacts", "Artefacts", SCORE_MAX),
    ("image.success", "Whole image: success", SCORE_MAX),
    ("image.overedit", "Whole image: overedit", SCORE_MAX),
)


@dataclass(frozen=True)
class Number:
    """One figure in the page's head."""

    what: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with its title and what it counts."""

    title: str
    note: str
    svg: Markup


def _stage(stages: Iterable[StageCount], name: str) -> StageCount:
    empty = StageCount(stage=name, rows_in=0, kept=0, rejected={})
    return next((stage for stage in stages if stage.stage == name), empty)


def summary(manifest: Manifest | None, stages: tuple[StageCount, ...]) -> str:
    """The run in one sentence."""
    requests, made, kept = (_stage(stages, name).kept for name in ("requests", "candidates", "gates"))
    if manifest is None:
        return f"{requests:,} edit requests became {made:,} edited images, of which {kept:,} passed the gates."
    scored = manifest.rows - manifest.unscored
    scores = "scores for the named ones" if not manifest.unscored else f"scores on {scored:,} of them"
    rows = f"{manifest.rows:,} rows with a mask for every region and {scores}, in {_count(len(manifest.shards), 'tar')}"
    return f"{requests:,} edit requests became {made:,} edited images, of which {kept:,} passed the gates: {rows}."


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def key_numbers(manifest: Manifest | None, stages: tuple[StageCount, ...]) -> list[Number]:
    """The figures in the page's head."""
    requests, made, gates = (_stage(stages, name) for name in ("requests", "candidates", "gates"))
    share = f"{100 * gates.kept / made.kept:.0f} % of them" if made.kept else ""
    numbers = [
        Number("requests", f"{requests.kept:,}", f"of {requests.rows_in:,} read"),
        Number("candidates", f"{made.kept:,}", f"{made.kept / max(1, requests.kept):.3g} a request"),
        Number("passed the gates", f"{gates.kept:,}", share),
    ]
    if manifest is None:
        return numbers
    size = sum(shard.size_bytes for shard in manifest.shards)
    numbers += [
        Number("dataset rows", f"{manifest.rows:,}", f"of {manifest.requests:,} requests"),
        Number("shards", f"{len(manifest.shards):,}", _megabytes(size)),
    ]
    return numbers + [Number(split, f"{rows:,}", "rows") for split, rows in manifest.splits.items()]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def synthetic_note(tally: DatasetTally) -> str:
    """What is synthetic in the rows, in a sentence; '' where nothing is."""
    made = [
        f"the {name} of {'all' if tally.synthetic[part] == tally.rows else format(tally.synthetic[part], ',')} rows"
        for part, name in (("source", "source image"), ("edit", "edit"), ("scores", "scores"))
        if tally.synthetic[part]
    ]
    if not made:
        return ""
    return (
        f"Synthetic among {tally.rows:,} rows: {', '.join(made)}. A program drew, edited or scored these, no person "
        "and no real model; they say nothing about how good a real editor is."
    )


def charts(tally: DatasetTally, entries: list[Entry]) -> list[Chart]:
    """Every distribution that the page shows."""
    made = [_score_chart(tally, key, title, high) for key, title, high in SCORES]
    areas = [100 * area for area in tally.areas]
    statuses = {name: tally.statuses[status] for status, name in STATUS_NAMES.items()}
    types = Counter(entry.edit_type for entry in entries)
    return [
        *made,
        Chart("Region area", f"{len(areas):,} regions", binned(areas, AREA_EDGES_PERCENT, "% of the image")),
        Chart("What became of regions", f"{len(areas):,} regions", bars(statuses, "regions")),
        Chart("Edit types", f"{len(entries):,} rows", bars(_most_first(types), "rows")),
        Chart("Defects put in on purpose", "kinds, by rows that have them", bars(_most_first(tally.defects), "rows")),
    ]


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _score_chart(tally: DatasetTally, key: str, title: str, high: int) -> Chart:
    values, missing = tally.values.get(key, []), tally.missing[key]
    mean = f"mean {fmean(values):.2f}" if values else "no score"
    note = f"{len(values):,} scores, {mean}, {missing:,} missing"
    if high == 1:
        return Chart(title, note, histogram(values, 0, 1, 10, "reward"))
    return Chart(title, note, score_histogram(values, high, "score"))
