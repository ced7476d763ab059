"""The fourth stage: every candidate through the gates; what is dropped keeps its reason and measure."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from pipeline.gates.measures import GateResult, GateSettings, judge, near_duplicates, rejection
from pipeline.run.faults import of_request
from pipeline.run.stage import PartImages
from schemas.sample import Measure, Rejection, Sample

STAGE = "gates"


def apply_gates(rows: Iterable[Sample], images: PartImages, *, gates: GateSettings) -> Iterator[Sample | Rejection]:
    """Candidates that pass every gate, the others as rejects; copies are looked for among a request's candidates."""
    for _, group in groupby(rows, key=lambda row: row.request.id):
        candidates = list(group)
        images.begin([row.key for row in candidates])
        with of_request(candidates[0].request.name):
            yield from _gated(candidates, images, gates)


def _gated(candidates: list[Sample], images: PartImages, gates: GateSettings) -> Iterator[Sample | Rejection]:
    """The candidates of one request."""
    results = [_judged_by_pixels(row, gates) for row in candidates]
    passed = [index for index, found in enumerate(results) if all(result.passed for result in found)]
    edited = [images.read(row.edited) for index in passed if (row := candidates[index]).edited is not None]
    copies = dict(zip(passed, near_duplicates(edited, gates), strict=True))
    for index, row in enumerate(candidates):
        yield _judged(row, [*results[index], *([copies[index]] if index in copies else [])])


def _judged_by_pixels(row: Sample, gates: GateSettings) -> list[GateResult]:
    if row.pixels is None:
        raise ValueError(f"{row.key} was not measured")
    return judge(row.pixels, gates)


def _judged(row: Sample, results: list[GateResult]) -> Sample | Rejection:
    measures = tuple(
        Measure(gate=result.gate, value=round(result.value, 6), threshold=result.threshold) for result in results
    )
    measured = row.model_copy(update={"measures": measures})
    failed = next((result for result in results if not result.passed), None)
    if failed is None:
        return measured
    return rejection(measured, STAGE, failed)
