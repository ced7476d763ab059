"""The second stage: K candidates for every request, made by an editor, or the ones that the user brought along."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pipeline.editors.oracle import construction_score
from pipeline.editors.protocol import CannotEdit, Edit, Editor, candidate_record
from pipeline.run.faults import of_request
from pipeline.run.stage import PartImages
from runtime.images import ImageU8
from schemas.candidate import Candidate
from schemas.record import short_hash
from schemas.request import EditRequest
from schemas.sample import Rejection, Sample
from schemas.score import CandidateScore

STAGE = "candidates"


def make_candidates(
    rows: Iterable[Sample], images: PartImages, *, editor: Callable[[], Editor], k: int, seed: int
) -> Iterator[Sample | Rejection]:
    """One row per candidate: `k` from the editor, or the brought ones of a request that has them.

    editor: gives it, asked for at the first request that brings no candidates.
    """
    for row in rows:
        images.begin([row.key])
        with of_request(row.request.name):
            if row.brought:
                yield from _brought(row, images)
            else:
                yield from _edited(row, images, images.between_rows(editor), k, seed)


def _edited(row: Sample, images: PartImages, editor: Editor, k: int, seed: int) -> list[Sample | Rejection]:
    """A row for each of `k` candidates, or one for all where the editor says the same of each: it is the request's."""
    sources = [images.read(ref) for ref in row.sources]
    rows = [_tried(row, images, editor, sources, index, seed) for index in range(k)]
    said = {(one.reason, one.detail) if isinstance(one, Rejection) else None for one in rows}
    if len(said) == 1 and isinstance(rows[0], Rejection):
        return [rows[0].model_copy(update={"key": row.key})]
    return rows


def _tried(
    row: Sample, images: PartImages, editor: Editor, sources: list[ImageU8], index: int, seed: int
) -> Sample | Rejection:
    edit_seed = int(short_hash("edit", seed, row.request.id, index), 16) >> 1
    try:
        made = editor.edit(row.request, sources, index, edit_seed)
    except CannotEdit as error:
        return Rejection(
            key=f"{row.key}-{index}",
            name=row.request.name,
            stage=STAGE,
            reason=error.reason,
            detail=error.detail[:500],
            sample=row,
        )
    return _sample(row, images, made, index, editor.name, editor.revision, editor.synthetic)


def _brought(row: Sample, images: PartImages) -> Iterator[Sample | Rejection]:
    for fault in row.brought_faults:
        key = f"{row.key}-{fault.index}"
        yield Rejection(
            key=key, name=row.request.name, stage=STAGE, reason=fault.reason, detail=fault.detail, sample=row
        )
    places = _places(row)
    for index, brought, ref in zip(places, row.request.candidates, row.brought, strict=True):
        made = Edit(image=images.read(ref), seed=brought.seed, parameters={"file": brought.path[-200:]})
        yield _sample(row, images, made, index, brought.editor, brought.revision, synthetic=False)


def _places(row: Sample) -> list[int]:
    """The places that the usable candidates had in the request's line: their ids hang on them, not on other files."""
    bad = {fault.index for fault in row.brought_faults}
    return [index for index in range(len(row.brought) + len(bad)) if index not in bad]


def _sample(
    row: Sample, images: PartImages, made: Edit, index: int, editor: str, revision: str | None, synthetic: bool
) -> Sample:
    request, stored = row.request, images.add(made.image)
    as_stored = replace(made, image=stored.pixels, parameters=made.parameters | {"index": index})
    candidate = candidate_record(request, as_stored, index=index, editor=editor, revision=revision, synthetic=synthetic)
    return row.model_copy(
        update={
            "key": f"{request.id}-{candidate.id}",
            "candidate": candidate,
            "edited": stored.ref,
            "scores": _known_scores(request, candidate),
        }
    )


def _known_scores(request: EditRequest, candidate: Candidate) -> tuple[CandidateScore, ...]:
    return (construction_score(request, candidate),) if candidate.edits else ()
