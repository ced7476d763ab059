"""The third stage: the planned regions of a request, and on every candidate the masks of what really changed."""

from collections.abc import Iterable, Iterator

from pipeline.backends import Segmenter
from pipeline.regions.fuse import fuse, plan_regions
from pipeline.stage import PartImages
from schemas.sample import Sample


def observe(rows: Iterable[Sample], images: PartImages, *, segmenter: Segmenter) -> Iterator[Sample]:
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
            image_changed=row.candidate.pixels_sha256 != row.request.sources[0].pixels_sha256,
        )
        yield row.model_copy(update={"planned": planned, "observed": observed})
