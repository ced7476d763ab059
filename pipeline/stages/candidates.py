"""The second stage: K candidates for every request, made by an editor, or the ones that the user brought along.

Each is brought into the frame of its source, once (`pipeline.regions.framing`); what it was is kept beside it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline.editors.oracle import construction_score
from pipeline.editors.protocol import CannotEdit, Edit, Editor, candidate_record
from pipeline.gates.measures import GateSettings, aligned, blank, misaligned, rejection
from pipeline.regions.alignment import at_size_of
from pipeline.regions.framing import frame
from pipeline.regions.planned import plan_regions, planned_mask
from pipeline.requests.instructions.another_frame import asks_for_another_frame
from pipeline.run.faults import of_request
from pipeline.run.stage import PartImages
from runtime.images import ImageU8
from runtime.masks import mask_to_rle
from schemas.candidate import Candidate
from schemas.record import short_hash
from schemas.request import EditRequest
from schemas.sample import ImageRef, Rejection, Sample
from schemas.score import CandidateScore

STAGE = "candidates"


@dataclass(frozen=True)
class _Maker:
    """Who made a candidate."""

    editor: str
    revision: str | None
    synthetic: bool


def make_candidates(
    rows: Iterable[Sample],
    images: PartImages,
    *,
    editor: Callable[[], Editor],
    k: int,
    seed: int,
    gates: GateSettings,
) -> Iterator[Sample | Rejection]:
    """One row per candidate: `k` from the editor, or the brought ones of a request that has them.

    editor: gives it, asked for at the first request that brings no candidates.
    """
    for row in rows:
        images.begin([row.key])
        with of_request(row.request.name):
            if row.brought:
                yield from _brought(row, images, gates)
            else:
                yield from _edited(row, images, images.between_rows(editor), k, seed, gates)


def _edited(
    row: Sample, images: PartImages, editor: Editor, k: int, seed: int, gates: GateSettings
) -> list[Sample | Rejection]:
    """A row for each of `k` candidates, or one for all where the editor says the same of each: it is the request's."""
    sources = [images.read(ref) for ref in row.sources]
    rows = [_tried(row, images, editor, sources, index, seed, gates) for index in range(k)]
    said = {(one.reason, one.detail) if isinstance(one, Rejection) else None for one in rows}
    if len(said) == 1 and isinstance(rows[0], Rejection):
        return [rows[0].model_copy(update={"key": row.key})]
    return rows


def _tried(
    row: Sample,
    images: PartImages,
    editor: Editor,
    sources: list[ImageU8],
    index: int,
    seed: int,
    gates: GateSettings,
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
    maker = _Maker(editor.name, editor.revision, editor.synthetic)
    return _framed(row, images, sources[0], made, index, maker, gates)


def _brought(row: Sample, images: PartImages, gates: GateSettings) -> Iterator[Sample | Rejection]:
    for fault in row.brought_faults:
        key = f"{row.key}-{fault.index}"
        yield Rejection(
            key=key, name=row.request.name, stage=STAGE, reason=fault.reason, detail=fault.detail, sample=row
        )
    places, source = _places(row), images.read(row.sources[0])
    for index, brought, ref in zip(places, row.request.candidates, row.brought, strict=True):
        made = Edit(image=images.read(ref), seed=brought.seed, parameters={"file": brought.path[-200:]})
        maker = _Maker(brought.editor, brought.revision, synthetic=False)
        yield _framed(row, images, source, made, index, maker, gates, ref)


def _places(row: Sample) -> list[int]:
    """The places that the usable candidates had in the request's line: their ids hang on them, not on other files."""
    bad = {fault.index for fault in row.brought_faults}
    return [index for index in range(len(row.brought) + len(bad)) if index not in bad]


def _framed(
    row: Sample,
    images: PartImages,
    source: ImageU8,
    made: Edit,
    index: int,
    maker: _Maker,
    gates: GateSettings,
    stored: ImageRef | None = None,
) -> Sample | Rejection:
    """The row of one candidate in its source's frame, or why it cannot be brought there.

    stored: where the picture as it came lies already, if anywhere.
    """
    if asks_for_another_frame(row.request):
        return _sample(row, images, replace(made, image=at_size_of(source, made.image)), index, maker)
    shape = (source.shape[0], source.shape[1])
    framed = frame(source, made.image, planned_mask(plan_regions(row.request, shape[1], shape[0]), shape))
    sample = _sample(row, images, replace(made, image=framed.image), index, maker)
    kept = None if framed.image is made.image else stored or images.add(made.image).ref
    unseen = mask_to_rle(framed.unseen) if framed.unseen is not None else None
    sample = sample.model_copy(update={"original": kept, "alignment": framed.alignment, "unseen": unseen})
    places = (
        aligned(framed.alignment.agreement, framed.layout, gates),
        misaligned(framed.misplaced_share, gates),
    )
    failed = next((place for place in places if not place.passed), None)
    if failed is None or not blank(made.image, gates).passed:  # a blank one goes on to the gate for that
        return sample
    return rejection(sample, STAGE, failed)


def _sample(row: Sample, images: PartImages, made: Edit, index: int, maker: _Maker) -> Sample:
    request, stored = row.request, images.add(made.image)
    as_stored = replace(made, image=stored.pixels, parameters=made.parameters | {"index": index})
    candidate = candidate_record(
        request, as_stored, index=index, editor=maker.editor, revision=maker.revision, synthetic=maker.synthetic
    )
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
