"""The third stage: the planned regions of a request, and on every candidate the masks of what really changed.

Source and candidate are compared once, here; what the gates judge by goes on with the row.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from pipeline.gates.duplicates import perceptual_hash
from pipeline.gates.measures import GateSettings, measure
from pipeline.models.protocols import PromptSegmenter
from pipeline.regions.difference import changed_mask, compare
from pipeline.regions.fuse import explained_mask, fuse
from pipeline.regions.outline import Outline, Pair, outline
from pipeline.regions.planned import plan_regions
from pipeline.run.faults import of_request
from pipeline.run.stage import PartImages
from runtime.images import ImageU8
from runtime.masks import rle_to_mask
from schemas.request import EditRequest
from schemas.sample import ImageRef, Sample

#: Candidates that a prompted segmenter is given at a time, and the bytes that their images and masks may take.
CHUNK_ROWS = 32
CHUNK_BYTES = 512 * 1024**2


def find_regions(
    rows: Iterable[Sample],
    images: PartImages,
    *,
    gates: GateSettings,
    outliner: Callable[[], PromptSegmenter] | None = None,
) -> Iterator[Sample]:
    """Candidates with planned regions and observed masks; a source is read once for its K candidates.

    outliner: gives what draws the outlines of planned regions on source and candidate, asked for at the first row; None
    leaves it to targets and differences.
    """
    pairs = _pairs(rows, images)
    for chunk in _chunks(pairs, images.suspects) if outliner is not None else ([one] for one in pairs):
        images.begin([row.key for row, _ in chunk])
        outlines = outline([pair for _, pair in chunk], images.between_rows(outliner)) if outliner else [{}]
        for (row, pair), found in zip(chunk, outlines, strict=True):
            images.begin([row.key])
            with of_request(row.request.name):
                yield _observed(row, pair, gates, found)


def _pairs(rows: Iterable[Sample], images: PartImages) -> Iterator[tuple[Sample, Pair]]:
    source_ref: ImageRef | None = None
    source: ImageU8 | None = None
    for row in rows:
        if row.candidate is None or row.edited is None:
            raise ValueError(f"{row.key} has no candidate")
        images.begin([row.key])
        with of_request(row.request.name):
            if source is None or row.sources[0] != source_ref:
                source_ref, source = row.sources[0], images.read(row.sources[0])
            edited = images.read(row.edited)
        yield row, Pair(row.request, source, edited)


def _chunks(
    pairs: Iterable[tuple[Sample, Pair]], suspects: Collection[str] = ()
) -> Iterator[list[tuple[Sample, Pair]]]:
    """Pairs to outline together; one whose process died over it goes alone."""
    chunk: list[tuple[Sample, Pair]] = []
    used = 0
    for row, pair in pairs:
        needed = pair.edited.shape[0] * pair.edited.shape[1] * (6 + 3 * len(pair.request.targets))
        alone = bool(chunk) and (row.key in suspects or chunk[-1][0].key in suspects)
        if chunk and (alone or len(chunk) == CHUNK_ROWS or used + needed > CHUNK_BYTES):
            yield chunk
            chunk, used = [], 0
        chunk.append((row, pair))
        used += needed
    if chunk:
        yield chunk


def _observed(row: Sample, pair: Pair, gates: GateSettings, outlines: dict[int, Outline]) -> Sample:
    assert row.candidate is not None
    shape = (pair.edited.shape[0], pair.edited.shape[1])
    planned = plan_regions(row.request, shape[1], shape[0])
    compared = compare(pair.source, pair.edited)
    unseen = None if row.unseen is None else rle_to_mask(row.unseen)
    changed = changed_mask(compared, gates.difference, unseen)
    observed = fuse(
        row.request,
        row.candidate.id,
        planned,
        changed,
        shape,
        image_changed=_is_global(row.request) and compared.drift >= gates.min_drift,
        outlines=outlines,
    )
    explained = explained_mask(planned, observed, shape)
    if unseen is not None:
        explained |= unseen
    return row.model_copy(
        update={
            "planned": planned,
            "observed": observed,
            "pixels": measure(pair.edited, compared, changed, explained, gates),
            "edited_fingerprint": perceptual_hash(pair.edited).hex(),
        }
    )


def _is_global(request: EditRequest) -> bool:
    """Whether a target means the whole image: then a drift, which the segmenter leaves out, may be the edit."""
    return any(target.box is None and target.mask is None for target in request.targets)
