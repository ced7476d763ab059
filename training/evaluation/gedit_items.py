"""GEdit-Bench's items from its published Parquet table, checked.

The table's columns are established from public sources, not from the data set itself, which is not at hand here
(stepfun-ai/Step1X-Edit, GEdit-Bench/generate_image_example.py): task_type, key, instruction, instruction_language,
input_image, input_image_raw, Intersection_exist; as Hugging Face stores images in Parquet, an image is a struct with
`bytes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runtime.images import BadImage, ImageU8, decode_image
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput

TASKS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change",
    "subject-add", "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
LANGUAGES = ("en", "cn")
COLUMNS = ("task_type", "key", "instruction", "instruction_language", "input_image", "input_image_raw")
INTERSECTION = "Intersection_exist"


@dataclass(frozen=True)
class GeditItem:
    """One item. source: what the judge sees; raw: what is edited; both HWC uint8 RGB."""

    task: str
    key: str
    instruction: str
    language: str
    intersection: bool
    source: ImageU8
    raw: ImageU8

    @property
    def place(self) -> str:
        """Where its edit lies in a policy's folder."""
        return f"fullset/{self.task}/{self.language}/{self.key}.png"


def read_gedit(folder: Path, language: str = "en") -> Iterator[GeditItem]:
    """The items of one language, in the order of the Parquet files below `folder`, one in memory at a time.

    Raises: BadInput, naming file and row, for what is not as published; for no item at all; for a key twice.
    """
    if language not in LANGUAGES:
        raise BadInput(f"language {language[:40]!r}", "is not in GEdit-Bench", f"choose from {', '.join(LANGUAGES)}")
    files = sorted(folder.rglob("*.parquet"))
    seen: set[str] = set()
    for path in files:
        for number, row in enumerate(_rows(path), 1):
            thing = f"{path.name} row {number}"
            if row.get("instruction_language") == language:
                item = _item(row, thing)
                if item.key in seen:
                    raise BadInput(thing, f"has the key {item.key} again", "download the data set anew")
                seen.add(item.key)
                yield item
    if not seen:
        fault = f"holds no GEdit item in {language}" if files else "holds no Parquet file"
        raise BadInput(str(folder), fault, "put the Parquet files of stepfun-ai/GEdit-Bench there")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
        lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if lacking:
            raise BadInput(path.name, f"has no column {lacking[0]}", "download the data set anew")
        wanted = [*COLUMNS, *([INTERSECTION] if INTERSECTION in file.schema_arrow.names else [])]
        for batch in file.iter_batches(batch_size=4, columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise BadInput(path.name, f"is not Parquet: {type(error).__name__}", "download the data set anew") from None


def _item(row: dict[str, Any], thing: str) -> GeditItem:
    task, key, instruction = row["task_type"], row["key"], row["instruction"]
    if task not in TASKS:
        raise BadInput(thing, f"has the task {str(task)[:40]!r}", f"its tasks are {', '.join(TASKS)}")
    if not isinstance(key, str) or not fullmatch(r"[A-Za-z0-9_-]{1,120}", key):
        raise BadInput(thing, f"has the key {str(key)[:40]!r}", "keys are letters, digits, - and _")
    if not isinstance(instruction, str) or not instruction.strip():
        raise BadInput(thing, "has no instruction", "download the data set anew")
    source, raw = (_image(row[name], f"{thing}, {name}") for name in ("input_image", "input_image_raw"))
    language = row["instruction_language"]
    return GeditItem(task, key, instruction, language, bool(row.get(INTERSECTION)), source, raw)


def _image(cell: Any, thing: str) -> ImageU8:
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise BadInput(thing, "has no bytes", "download the data set with its images")
    try:
        return decode_image(data)
    except BadImage as error:
        raise BadInput(thing, f"is no image: {error.detail}", "download the data set anew") from None
