"""A benchmark of multi-region requests as a folder: chosen from a run or from procedural scenes, written, read back.

FOLDER/benchmark.json          MultiEditBenchmark, written last: a folder without it is no benchmark
FOLDER/sources/<sha256>.png    the sources, each once, named by their pixels

In it are requests with one source, one turn and two planned regions or more, each region with the mask that its edit
means to change: the procedural editor's own (old place and new) where it can carry the request out, else the target's
mask or box. MultiEditBench asks for several regions in one instruction, too; this builder makes the like from data of
one's own and is not that published set. The same requests give the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipeline.dataset.shards import read_dataset
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.target_mask import target_mask
from pipeline.run.folder import read_build_info, read_kept
from pipeline.run.image_store import read_image
from runtime.files import write_whole
from runtime.images import MAX_FILE_BYTES, BadImage, ImageU8, box_mask, decode_image, encode_image, pixels_sha256
from runtime.masks import MaskBool, mask_to_rle, rle_to_mask
from schemas.edit_benchmarks import MultiEditBenchmark, MultiEditItem, PlannedMask
from schemas.errors import BadInput
from schemas.region import region_id
from schemas.request import EditRequest, Split, Target
from training.evaluation.localisation_cases import HELD_OUT_SEED, HELD_OUT_TEXTURES, Opened, opened_scenes

MANIFEST = "benchmark.json"
LEAST_REGIONS = 2
ITEMS = 200
_REMEDY = "build it anew"


@dataclass(frozen=True)
class Item:
    """One request of a benchmark, read and checked. source: HWC uint8; masks: region id -> (H, W) bool, none empty."""

    record: MultiEditItem
    source: ImageU8
    masks: Mapping[str, MaskBool]

    @property
    def id(self) -> str:
        """The request's id, by which its edit is found."""
        return self.record.request.id

    @property
    def place(self) -> str:
        """Where its edit lies in a policy's folder."""
        return f"{self.id}.png"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark folder whose manifest was read. sha256: of the manifest's bytes; it stands in every result."""

    folder: Path
    manifest: MultiEditBenchmark
    sha256: str

    def items(self) -> Iterator[Item]:
        """Every item with its pixels, one in memory at a time. Raises: BadInput, naming the item."""
        return (_item(self.folder, record) for record in self.manifest.items)


def scene_requests(size_px: int = 128, *, seed: int = HELD_OUT_SEED, scenes: int = 100_000) -> Iterator[Opened]:
    """Requests on procedural scenes, by default of a seed and of textures that no training sees. `scenes`: at most."""
    return opened_scenes(scenes, seed, size_px, HELD_OUT_TEXTURES)


def run_requests(run: Path, split: Split | None = "test") -> Iterator[Opened]:
    """The requests of a built run in the order of its parts; only those in `split` of its dataset, None for all.

    Raises: BadInput where the folder holds no run or no dataset; DamagedFile.
    """
    info = read_build_info(run)
    chosen = None if split is None else {row.request for _, row, _ in read_dataset(run / "dataset", split)}
    for part in range(info.n_parts):
        for row in read_kept(run, "requests", part):
            if chosen is None or row.request.id in chosen:
                yield row.request, [read_image(run, ref) for ref in row.sources]


def build_benchmark(folder: Path, name: str, requests: Iterable[Opened], items: int = ITEMS) -> Benchmark:
    """Writes the first `items` of `requests` that fit (see the module) into `folder`, and reads the manifest back.

    Raises: BadInput where none fits, `items` is below 1, or the folder holds another benchmark.
    """
    if items < 1:
        raise BadInput("items", f"are {items}", "ask for one or more")
    chosen: dict[str, MultiEditItem] = {}
    for request, sources in requests:
        if request.id not in chosen and (item := _written(folder, request, sources)) is not None:
            chosen[request.id] = item
        if len(chosen) == items:
            break
    if not chosen:
        raise BadInput(name, "has no request with two regions or more", "give one source, one turn, and boxes")
    manifest = MultiEditBenchmark(
        name=name, synthetic=sum(item.request.synthetic for item in chosen.values()), items=tuple(chosen.values())
    )
    path, data = folder / MANIFEST, manifest.model_dump_json().encode() + b"\n"
    if path.is_file() and path.read_bytes() != data:
        raise BadInput(str(path), "is another benchmark", "give another folder")
    write_whole(path, data)
    return read_benchmark(folder)


def _written(folder: Path, request: EditRequest, sources: list[ImageU8]) -> MultiEditItem | None:
    """The item of a request, its source written; None where it does not fit."""
    if request.kind != "single" or len(request.targets) < LEAST_REGIONS:
        return None
    masks, oracle = planned_masks(request, sources)
    if len(masks) < LEAST_REGIONS or not all(mask.any() for mask in masks.values()):
        return None
    data = encode_image(sources[0], "png")
    place = f"sources/{pixels_sha256(sources[0])}.png"
    if not (folder / place).is_file():
        write_whole(folder / place, data)
    labels = {region_id(request.id, index): target.label for index, target in enumerate(request.targets)}
    group = request.source_group
    return MultiEditItem(
        request=request.model_copy(update={"candidates": ()}),
        source=place,
        source_sha256=sha256(data).hexdigest(),
        group=request.sources[0].origin_sha256 if group is None else sha256(group.encode()).hexdigest(),
        oracle=oracle,
        regions=tuple(PlannedMask(region=key, label=labels[key], mask=mask_to_rle(masks[key])) for key in labels),
    )


def planned_masks(request: EditRequest, sources: list[ImageU8]) -> tuple[dict[str, MaskBool], bool]:
    """(planned region id -> (H, W) bool, whether the procedural editor made them); none where a target has no place.

    Without the editor: the target's mask, or what can be told from its box, and its destination.
    """
    try:
        return ProceduralEditor().region_masks(request, sources), True
    except CannotEdit:
        pass
    try:
        masks = [_target_place(sources[0], target) for target in request.targets]
    except ValueError:
        return {}, False
    return {region_id(request.id, index): mask for index, mask in enumerate(masks)}, False


def _target_place(source: ImageU8, target: Target) -> MaskBool:
    mask = target_mask(source, target)
    return mask if target.destination is None else mask | box_mask(target.destination, *source.shape[:2])


def read_benchmark(folder: Path) -> Benchmark:
    """The benchmark in `folder`; its sources are read and checked as they are asked for. Raises: BadInput."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(str(path), f"is longer than {MAX_FILE_BYTES} bytes", _REMEDY)
        data = path.read_bytes()
    except OSError as error:
        remedy = "build one with `python -m training.evaluation.benchmark build`"
        raise BadInput(str(path), f"cannot be read: {type(error).__name__}", remedy) from None
    manifest = MultiEditBenchmark.from_json(data, thing=str(path))
    return Benchmark(folder, manifest, sha256(data).hexdigest())


def _item(folder: Path, record: MultiEditItem) -> Item:
    thing = f"item {record.request.id} of {folder.name}"
    source = _source(folder, record, thing)
    size = record.request.sources[0]
    if source.shape[:2] != (size.height_px, size.width_px):
        raise BadInput(thing, f"says {size.width_px} x {size.height_px} px, its source has another size", _REMEDY)
    known = {region_id(record.request.id, index) for index in range(len(record.request.targets))}
    masks: dict[str, MaskBool] = {}
    for region in record.regions:
        if region.region not in known or region.region in masks:
            raise BadInput(thing, f"has region {region.region} twice or for no target of it", _REMEDY)
        masks[region.region] = _mask(region, source.shape[:2], thing)
    return Item(record, source, masks)


def _mask(region: PlannedMask, shape: tuple[int, ...], thing: str) -> MaskBool:
    if region.mask.size != tuple(shape):
        raise BadInput(thing, f"has a mask of {list(region.mask.size)} px over an image of {list(shape)}", _REMEDY)
    try:
        mask = rle_to_mask(region.mask)
    except ValueError as error:
        raise BadInput(thing, f"has a mask that is none: {error}", _REMEDY) from None
    if not mask.any():
        raise BadInput(thing, f"has an empty mask for region {region.region}", _REMEDY)
    return mask


def _source(folder: Path, record: MultiEditItem, thing: str) -> ImageU8:
    path = folder / record.source
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadInput(thing, f"has no source that can be read: {type(error).__name__}", _REMEDY) from None
    if sha256(data).hexdigest() != record.source_sha256:
        raise BadInput(thing, "has another source than the manifest says", _REMEDY)
    try:
        return np.ascontiguousarray(decode_image(data))
    except BadImage as error:
        raise BadInput(thing, f"has a source that is no image: {error.detail}", _REMEDY) from None
