"""The room that an export takes, looked at before it writes. What it takes over from the dataset before costs none."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tarfile import BLOCKSIZE

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from pipeline.dataset.plan import ShardPlan
from pipeline.run.folder import part_name, read_columns
from schemas.errors import DamagedFile
from schemas.record import first_fault

#: What else an export writes: card, manifest and notes.
LEAST_BYTES = 1 << 16
#: Members of a sample beside its images: the picture of its regions, and its row.
OTHER_MEMBERS = 2


class _Image(BaseModel):
    length: int


class _Images(BaseModel):
    """What a row says of its images; the rest is left unread."""

    sources: tuple[_Image, ...]
    edited: _Image


def least_bytes(run: Path, shards: Iterable[ShardPlan]) -> int:
    """What the tars of these shards take at least: their images as they are stored, and all headers.

    Raises: DamagedFile.
    """
    wanted = defaultdict[int, list[str]](list)
    for shard in shards:
        for part, keys in shard.keys:
            wanted[part] += keys
    return LEAST_BYTES + sum(_part_bytes(run, part, keys) for part, keys in wanted.items())


def _part_bytes(run: Path, part: int, keys: list[str]) -> int:
    table = read_columns(run, "gates", part, ["key", "record"])
    records = table.filter(pc.is_in(table["key"], pa.array(keys, pa.string())))["record"]
    try:
        return sum(_sample_bytes(_Images.model_validate_json(record.as_py())) for record in records)
    except ValidationError as error:
        thing = f"gates/{part_name(part)}.parquet"
        raise DamagedFile(thing, first_fault(error), "run `regionwise repair`") from None


def _sample_bytes(images: _Images) -> int:
    sizes = [-(-image.length // BLOCKSIZE) * BLOCKSIZE for image in (*images.sources, images.edited)]
    return sum(sizes) + BLOCKSIZE * (len(sizes) + OTHER_MEMBERS)
