"""The first stage: a planned line becomes a checked request with its source images, or a reject with its reason."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from pipeline.gates.duplicates import perceptual_hash
from pipeline.gates.measures import GateResult, GateSettings, source_fault
from pipeline.models.protocols import Detector
from pipeline.regions.targets import CHUNK_BYTES, CHUNK_ROWS, name_targets
from pipeline.requests.edit_requests import edit_request
from pipeline.requests.lines import BadRequest, OpenedRequest, open_line, printable
from pipeline.requests.presence import MISSING
from pipeline.requests.scaling import Size, scale_image, scale_targets, scale_to_cover
from pipeline.requests.scenes import TEXTURES
from pipeline.run.faults import of_request
from pipeline.run.plan import PlannedLine, line_name
from pipeline.run.stage import PartImages
from runtime.images import BadImage, ImageU8, pixels_sha256
from schemas.sample import BroughtFault, Rejection, Sample

STAGE = "requests"
DETAIL_CHARS = 500
Opened = tuple[str, Sample | Rejection, ImageU8 | None]


@dataclass(frozen=True)
class _Original:
    """A source image at its own size, as far as it is needed once it is scaled. size_hw: (H, W) in pixels."""

    sha256: str
    fingerprint: str
    size_hw: Size
    scaled: ImageU8


def open_requests(
    rows: Iterable[PlannedLine],
    images: PartImages,
    *,
    size_px: int,
    gates: GateSettings,
    scene_textures: tuple[str, ...] = TEXTURES,
    detector: Callable[[], Detector] | None = None,
) -> Iterator[Sample | Rejection]:
    """Requests from planned lines: parsed, sources decoded and scaled to `size_px`, targets scaled along.

    detector: gives what finds the things of requests without targets, asked for at the first of them; None leaves
    these without.
    """
    opened = _opened(rows, images, size_px, gates, scene_textures)
    if detector is None:
        yield from (row for _, row, _ in opened)
        return
    for chunk in _chunks(opened, images.suspects):
        images.begin([place for place, _, _ in chunk])
        yield from name_targets([(row, source) for _, row, source in chunk], partial(images.between_rows, detector))


def _chunks(opened: Iterable[Opened], suspects: Collection[str]) -> Iterator[list[Opened]]:
    """Rows that a detector sees in one call; one whose process died over it goes alone."""
    chunk, used = list[Opened](), 0
    for one in opened:
        size = one[2].nbytes if one[2] is not None else 0
        alone = bool(chunk) and (one[0] in suspects or chunk[-1][0] in suspects)
        if chunk and (alone or len(chunk) == CHUNK_ROWS or used + size > CHUNK_BYTES):
            yield chunk
            chunk, used = [], 0
        chunk.append(one)
        used += size
    if chunk:
        yield chunk


def _opened(
    rows: Iterable[PlannedLine], images: PartImages, size_px: int, gates: GateSettings, scene_textures: tuple[str, ...]
) -> Iterator[Opened]:
    """Each row with its line's place and the pixels of sources[0] as they are stored; a reject has none."""
    names: dict[str, str] = {}
    for planned in rows:
        name = line_name(planned)
        images.begin([planned.place])
        try:
            with of_request(name):
                opened = open_line(planned, scene_textures)
                sample, source = _sample(opened, images, size_px, gates)
                sample = _with_brought(sample, opened, images)
            if names.setdefault(sample.key, name) != name:
                raise BadRequest("duplicate_request", _repeated(names[sample.key], opened))
        except (BadRequest, BadImage) as error:
            detail = printable(error.detail, DETAIL_CHARS)
            rejection = Rejection(key=name, name=name, stage=STAGE, reason=error.reason, detail=detail)
            yield planned.place, rejection, None
            continue
        yield planned.place, sample, source


def _repeated(first: str, opened: OpenedRequest) -> str:
    detail = f"asks what {first!r} asks, of the same source"
    return f"{detail}; write its candidates into that request" if opened.line.candidates else detail


def _sample(
    opened: OpenedRequest, images: PartImages, size_px: int, gates: GateSettings
) -> tuple[Sample, ImageU8]:  # fmt: skip
    originals = _originals(opened, size_px, gates)
    sizes = [(one.scaled.shape[0], one.scaled.shape[1]) for one in originals]
    targets = scale_targets(opened.line.targets, [one.size_hw for one in originals], sizes)
    stored = [images.add(one.scaled) for one in originals]
    request = edit_request(opened, targets, [one.sha256 for one in originals], [image.pixels for image in stored])
    sample = Sample(
        key=request.id,
        request=request,
        sources=tuple(image.ref for image in stored),
        source_fingerprint=originals[0].fingerprint,
    )
    return sample, stored[0].pixels


def _originals(opened: OpenedRequest, size_px: int, gates: GateSettings) -> list[_Original]:
    """The sources of a line, scaled. Raises: BadRequest where one does not pass the gates."""
    read = list(map(partial(_original, size_px=size_px, gates=gates), opened.images()))  # map keeps none while it reads
    for path, one in zip(opened.line.sources, read, strict=True):
        if isinstance(one, GateResult):
            raise BadRequest(one.gate, f"{path[:100]}: {one.detail}")
    return [one for one in read if isinstance(one, _Original)]


def _original(image: ImageU8, size_px: int, gates: GateSettings) -> _Original | GateResult:
    if failed := source_fault(image, gates):
        return failed
    fingerprint = perceptual_hash(image).hex()
    return _Original(pixels_sha256(image), fingerprint, (image.shape[0], image.shape[1]), scale_image(image, size_px))


def _with_brought(sample: Sample, opened: OpenedRequest, images: PartImages) -> Sample:
    """`sample` with the candidates that its line brought along, and the fault of each that cannot be used.

    Raises: BadRequest where the line brought some and none can be used.
    """
    request, source = sample.request, sample.request.sources[0]
    good, refs, bad = [], [], []
    for index, brought in enumerate(request.candidates):
        try:
            image = scale_to_cover(opened.read(brought.path), source.width_px, source.height_px)
        except BadImage as error:
            bad.append(BroughtFault(index=index, reason=error.reason, detail=printable(error.detail, DETAIL_CHARS)))
            continue
        good.append(brought)
        refs.append(images.add(image).ref)
    if bad and not good:
        reason = MISSING if all(fault.reason == MISSING for fault in bad) else "no_usable_candidate"
        raise BadRequest(reason, f"none of {len(bad)} candidates can be used: {bad[0].detail}")
    request = request.model_copy(update={"candidates": tuple(good)})
    return sample.model_copy(update={"request": request, "brought": tuple(refs), "brought_faults": tuple(bad)})
