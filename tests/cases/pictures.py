"""Picture files for tests of what is done with files from outside."""

import struct
import zlib


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG that says it is so large, and has next to no pixels: what looks at its header alone believes it."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    rest = _chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + rest


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
