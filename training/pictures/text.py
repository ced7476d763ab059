"""Text on a sheet: the font that comes with matplotlib, so that the same words give the same pixels; lines that fit."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from schemas.errors import MissingPackage


@lru_cache(maxsize=32)
def sheet_font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of `size` px. Raises: MissingPackage where matplotlib is not installed."""
    found = find_spec("matplotlib")  # not imported: that takes seconds
    if found is None or found.origin is None:
        raise MissingPackage("matplotlib", "is not installed", "pip install matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def wrapped(text: str, size: int, room: float, most: int, *, bold: bool = False) -> list[str]:
    """`text` in lines no wider than `room` px, at most `most`; what does not fit is cut with an ellipsis."""
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or sheet_font(size, bold).getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
        if len(lines) > most:
            break
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} {lines[most]}"]
    return [clipped(line, size, room, bold=bold) for line in lines]


def clipped(text: str, size: int, room: float, *, bold: bool = False) -> str:
    """`text` cut with an ellipsis to at most `room` px."""
    font = sheet_font(size, bold)
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + "…") <= room else (low, middle - 1)
    return text[:low].rstrip() + "…"


def printable(text: str) -> str:
    """`text` with a space for every character that cannot be printed."""
    return "".join(c if c.isprintable() else " " for c in text)
