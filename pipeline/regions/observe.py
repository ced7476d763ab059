"""The third stage: the planned regions of a request, and on every candidate the masks of what really changed."""

from collections.abc import Iterable, Iterator

from pipeline.backends import Segmenter
from pipeline.gates import GateSettings
from pipeline.images import ImageU8
from pipeline.regions.difference import compare
from pipeline.regions.fuse import fuse, plan_regions
from pipeline.stage import PartImages
from schemas.request import EditRequest
from schemas.sample import Sample


def observe(
    rows: Iterable[Sample], images: PartImages, *, segmenter: Segmenter, gates: GateSettings
) -> Iterator[Sample]:
    """Candidates with planned regions and observed masks; a source is read once for its K candidates."""
    source_ref, source = None, None
    for row in rows:
        if row.candidate is None or row.edited is None:
            raise ValueError(f"{row.key} has no candidate")
        if source is None or row.sources[0] != source_ref:
            source_ref, source = row.sources[0], images.read(row.sources[0])
        edited = images.read(row.edited)
        planned = plan_regions(row.request, row.candidate.width_px, row.candidate.height_px)
        changed = segmenter.changed(source, edited)
        observed = fuse(
            row.request,
            row.candidate.id,
            planned,
            changed,
            (edited.shape[0], edited.shape[1]),
            image_changed=_is_global(row.request)
            and compare(source, edited, gates.difference).drift >= gates.min_drift,
        )
        yield row.model_copy(update={"planned": planned, "observed": observed})


def _is_global(request: EditRequest) -> bool:
    """Whether a target means the whole image: then a drift, which the segmenter leaves out, may be the edit."""
    return any(target.box is None and target.mask is None for target in request.targets)


def _has_drifted(source: ImageU8, edited: ImageU8, gates: GateSettings) -> bool:
    return compare(source, edited, gates.difference).drift >= gates.min_drift
