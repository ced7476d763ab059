"""Small ICC profiles: of RGB spaces by three primaries and a gamma, of grey by a gamma, of CMYK by a table.

Layout: ICC.1:2001-04, sections 6 and 7.
"""

import struct

#: XYZ of red, green and blue under D50.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries_xyz: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """A display profile."""
    primaries = {tag: _xyz(primary) for tag, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries_xyz, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", primaries | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def grey_profile(gamma: float) -> bytes:
    """A profile of grey."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(paper_lab: tuple[int, int, int], ink_lab: tuple[int, int, int]) -> bytes:
    """A printer's profile in which no ink at all is one colour and any full ink the other (Lab, 8 bits a channel)."""
    table = b"".join(bytes(ink_lab if corner else paper_lab) for corner in range(16))
    straight = bytes(range(256))
    matrix = b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + 4 * straight + table + 3 * straight
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _profile(kind: bytes, space: bytes, connection: bytes, own: dict[bytes, bytes]) -> bytes:
    name = b"of tests\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_D50),
        **own,
    }
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return head + bytes(128 - len(head)) + table + data


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)
