"""The images of a build: plain tars written once, each image found by (tar, offset, length) and checked by its hash."""

import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from runtime.files import add_to_tar, forget_members
from runtime.images import EXTENSIONS, ImageU8, decode_image, encode_image, pixels_sha256
from schemas.errors import DamagedFile
from schemas.sample import ImageFormat, ImageRef


@dataclass(frozen=True)
class StoredImage:
    """Where an image lies, and its pixels as they will be read back (HWC uint8 RGB): JPEG changes them."""

    ref: ImageRef
    pixels: ImageU8


class ImageTar:
    """Writes the images of one part, the same pixels once. name: the tar's final place below the run folder.

    Of what is written it keeps the places alone: the pixels of a part of 256 requests would be gigabytes.
    """

    def __init__(self, file: IO[bytes], name: str, image_format: ImageFormat) -> None:
        self._file, self._name, self._format = file, name, image_format
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self._written: dict[str, ImageRef] = {}

    def add(self, image_hwc_u8: ImageU8) -> StoredImage:
        """Adds an image (RGB), the same one once, and says where it lies and what is read back."""
        name = pixels_sha256(image_hwc_u8)
        ref = self._written.get(name)
        if ref is not None and self._format == "png":  # lossless: nothing to encode again
            return StoredImage(ref, image_hwc_u8)
        data = encode_image(image_hwc_u8, self._format)
        if ref is None:
            ref = self._written[name] = self._add_bytes(name, data)
        return StoredImage(ref, image_hwc_u8 if self._format == "png" else decode_image(data))

    def _add_bytes(self, name: str, data: bytes) -> ImageRef:
        offset = self._file.tell() + tarfile.BLOCKSIZE
        add_to_tar(self._tar, f"{name[:32]}.{EXTENSIONS[self._format]}", data)
        forget_members(self._tar)
        digest = sha256(data).hexdigest()
        return ImageRef(tar=self._name, offset=offset, length=len(data), sha256=digest, format=self._format)

    def close(self) -> None:
        """Writes the tar's end; the caller closes the file."""
        self._tar.close()


def read_image_bytes(run: Path, ref: ImageRef) -> bytes:
    """The encoded bytes of an image. Raises: DamagedFile where they are not what was written."""
    path = run / ref.tar
    if not path.is_file() or path.stat().st_size < ref.offset + ref.length:
        raise DamagedFile(ref.tar, "is missing or cut", "run `regionwise repair`")
    with path.open("rb") as file:
        file.seek(ref.offset)
        data = file.read(ref.length)
    if sha256(data).hexdigest() != ref.sha256:
        raise DamagedFile(ref.tar, f"has other bytes at {ref.offset} than were written", "run `regionwise repair`")
    return data


def read_image(run: Path, ref: ImageRef) -> ImageU8:
    """An image as HWC uint8 RGB. Raises: DamagedFile."""
    return decode_image(read_image_bytes(run, ref))
