"""Edits of a benchmark's items as image files in a policy's folder: made where they are missing, and read."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.editors.protocol import CannotEdit
from runtime.images import BadImage, ImageU8, decode_image
from schemas.errors import BadInput
from schemas.record import short_hash

#: (source HWC uint8, instruction, seed) -> edited image; raises CannotEdit to leave an item out.
EditFunction = Callable[[ImageU8, str, int], ImageU8]


class HasPlace(Protocol):
    """An item of a benchmark."""

    @property
    def place(self) -> str:
        """Where its edit lies in a policy's folder."""
        ...


ItemT = TypeVar("ItemT", bound=HasPlace)


def item_seed(seed: int, key: str) -> int:
    """The seed of an item's edit, below 2^31; the same whatever was edited before."""
    return int(short_hash("edit benchmark", seed, key), 16) % 2**31


def missing_edits(
    folder: Path, items: Iterable[ItemT], edit: Callable[[ItemT], ImageU8]
) -> Iterator[tuple[ItemT, Path, ImageU8]]:
    """(item, path, edited image) of every item whose edit `folder` does not hold yet, for the caller to write.

    edit: makes one; CannotEdit leaves its item out.
    """
    for item in items:
        path = folder / item.place
        if path.is_file():
            continue
        try:
            image = edit(item)
        except CannotEdit:
            continue
        yield item, path, image


def saved_edits(folder: Path) -> Callable[[HasPlace], ImageU8 | None]:
    """The edits that lie in `folder`; None for one that is not there. Raises: BadInput for one that is no image."""

    def read(item: HasPlace) -> ImageU8 | None:
        path = folder / item.place
        try:
            return decode_image(path.read_bytes()) if path.is_file() else None
        except (BadImage, OSError) as error:
            raise BadInput(item.place, f"is no image: {error}"[:200], "remove it and edit anew") from None

    return read
