"""The fourth stage: every candidate through the gates; what is dropped keeps its reason and measure."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from pipeline.gates.duplicates import perceptual_hash
from pipeline.gates.measures import (
    GateResult,
    GateSettings,
    blank,
    changed_all_over,
    near_duplicates,
    preservation,
    unchanged,
)
from pipeline.regions.difference import changed_mask, compare
from pipeline.regions.fuse import explained_mask
from pipeline.run.faults import of_request
from pipeline.run.stage import PartImages
from runtime.images import ImageU8
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
    source = images.read(candidates[0].sources[0])
    edited = [images.read(row.edited) for row in candidates if row.edited is not None]
    results = [_measure(row, source, image, gates) for row, image in zip(candidates, edited, strict=True)]
    passed = [index for index, found in enumerate(results) if all(result.passed for result in found)]
    copies = dict(zip(passed, near_duplicates([edited[index] for index in passed], gates), strict=True))
    for index, row in enumerate(candidates):
        found = [*results[index], *([copies[index]] if index in copies else [])]
        yield _judged(row, edited[index], found)


def _measure(row: Sample, source: ImageU8, edited: ImageU8, gates: GateSettings) -> list[GateResult]:
    shape = (edited.shape[0], edited.shape[1])
    pair = compare(source, edited, gates.difference)
    changed = changed_mask(pair, gates.difference)
    explained = explained_mask(row.planned, row.observed, shape)
    return [
        blank(edited, gates),
        unchanged(pair, changed, gates),
        changed_all_over(pair, explained, gates),
        preservation(pair, explained, gates),
    ]


def _judged(row: Sample, edited: ImageU8, results: list[GateResult]) -> Sample | Rejection:
    measures = tuple(
        Measure(gate=result.gate, value=round(result.value, 6), threshold=result.threshold) for result in results
    )
    measured = row.model_copy(update={"measures": measures, "edited_fingerprint": perceptual_hash(edited).hex()})
    failed = next((result for result in results if not result.passed), None)
    if failed is None:
        return measured
    return Rejection(
        key=row.key,
        name=row.request.name,
        stage=STAGE,
        reason=failed.gate,
        detail=failed.detail[:500],
        measure=failed.value,
        threshold=failed.threshold,
        sample=measured,
    )
