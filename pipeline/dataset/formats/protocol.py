"""What a format of samples has to offer, and the images that it is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from schemas.dataset_row import DatasetRow
from schemas.request import Split
from schemas.sample import ImageFormat


@dataclass(frozen=True)
class EncodedImage:
    """An image file's bytes."""

    data: bytes
    format: ImageFormat


@dataclass(frozen=True)
class SampleImages:
    """The images of one candidate: its request's sources in their order, and what was made of them."""

    sources: tuple[EncodedImage, ...]
    edited: EncodedImage


@runtime_checkable
class SampleFormat(Protocol):
    """The members of one sample in a tar. Their names come after the sample's key and a dot."""

    name: str

    def members(self, row: DatasetRow, images: SampleImages) -> dict[str, bytes]:
        """The members by name, in the order of the tar; the same sample gives the same bytes."""
        ...

    def row(self, key: str, members: Mapping[str, bytes]) -> DatasetRow:
        """The row back from its members. Raises: BadInput, naming `key`."""
        ...

    def fault(self, key: str, members: Mapping[str, bytes], split: Split, row: DatasetRow | None = None) -> str | None:
        """What is wrong with a sample of a shard of `split`, or None. row: where it was read already."""
        ...
