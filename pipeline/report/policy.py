"""The report's section on trained policies: held-out figures before and after, curves, and sheets of what they edit.

From the files in `<run>/policy/<name>/` alone: `evaluation.json`, `figures.jsonl`, `curves.png` and `sheet-*.png`; each
part is there when its file is. Pictures are decoded and encoded anew, so that only pixels come onto the page.
"""

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from re import fullmatch
from typing import Any

from PIL import Image

from runtime.images import BadImage, ImageU8, data_url, decode_image, resize_image
from schemas.edit_benchmarks import Interval, PairedFigure, PolicyEvaluation
from schemas.errors import BadInput, DamagedFile
from schemas.sample import ImageFormat

FOLDER = "policy"
WIDEST_PX, JPEG_QUALITY = 1_700, 82
LOG_MAX_BYTES = 256 * 1024 * 1024
ABSENT = "\u2013"
#: what -> (its name, how it is written)
FIGURES: dict[str, tuple[str, str]] = {
    "region_reward": ("region reward R, 0 to 1", "share"),
    "region_phi": ("region φ / 25, 0 to 1", "share"),
    "region_right": ("regions right", "percent"),
    "all_right": ("requests with all regions right", "percent"),
    "background": ("background", "share"),
}


@dataclass(frozen=True)
class FigureView:
    """One held-out figure. verdict: what the interval of the change says; grade: 0 worse, 2 neither, 4 better."""

    name: str
    first: str
    second: str
    change: str
    between: str
    verdict: str
    grade: int


@dataclass(frozen=True)
class PictureView:
    """A picture on the page. address: its data address; width, height: in pixels as it is stored there."""

    address: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class PolicyView:
    """One trained policy."""

    name: str
    evaluation: PolicyEvaluation | None
    updates: int | None
    figures: tuple[FigureView, ...]
    curves: PictureView | None
    sheets: tuple[PictureView, ...]


def policy_data(run: Path) -> dict[str, Any] | None:
    """What the section's template needs; None where the run has no policy. Raises: BadInput, DamagedFile."""
    folder = run / FOLDER
    names = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    views = [view for path in names if (view := _view(path)) is not None]
    return {"policies": views} if views else None


def _view(folder: Path) -> PolicyView | None:
    """A policy's view; None where its folder has nothing to show yet."""
    path = folder / "evaluation.json"
    evaluation = PolicyEvaluation.from_json(path.read_bytes(), thing=str(path)) if path.is_file() else None
    curves, sheets = folder / "curves.png", _sheets(folder)
    view = PolicyView(
        name=folder.name,
        evaluation=evaluation,
        updates=_updates(folder / "figures.jsonl"),
        figures=tuple(_figure(figure) for figure in evaluation.figures) if evaluation else (),
        curves=_picture(curves, "every logged figure over updates", "png") if curves.is_file() else None,
        sheets=tuple(_picture(sheet, f"after {update:,} updates", "jpeg") for update, sheet in sheets),
    )
    shown = view.evaluation, view.updates, view.curves, view.sheets
    return view if any(part is not None and part != () for part in shown) else None


def _sheets(folder: Path) -> list[tuple[int, Path]]:
    """(update, path) of the first sheet and of the last."""
    found = sorted(
        (int(name[1]), path)
        for path in folder.glob("sheet-*.png")
        if path.is_file() and (name := fullmatch(r"sheet-([0-9]{1,9})\.png", path.name))
    )
    return found if len(found) < 2 else [found[0], found[-1]]


def _updates(path: Path) -> int | None:
    """How many updates were logged; None without a log. A last line without its end is passed over.

    Raises: BadInput for a line that is no JSON object.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > LOG_MAX_BYTES:
        raise BadInput(str(path), f"is longer than {LOG_MAX_BYTES} bytes", "log less often")
    lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]
    for number, line in enumerate(lines, 1):
        if not _is_object(line):
            raise BadInput(f"{path} line {number}", "is no JSON object", "remove the line")
    return len(lines)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _figure(figure: PairedFigure) -> FigureView:
    name, form = FIGURES[figure.what]
    change = figure.difference
    between, verdict, grade = "", "not known", 2
    if change.low is not None and change.high is not None:
        between = f"{_said(change.low, form, signed=True)} to {_said(change.high, form, signed=True)}"
        better, worse = change.low > 0, change.high < 0
        verdict, grade = ("better", 4) if better else ("worse", 0) if worse else ("no change beyond chance", 2)
    return FigureView(
        name=name,
        first=_value(figure.first, form),
        second=_value(figure.second, form),
        change=ABSENT if change.value is None else _said(change.value, form, signed=True),
        between=between,
        verdict=verdict,
        grade=grade,
    )


def _value(figure: Interval, form: str) -> str:
    return ABSENT if figure.value is None else _said(figure.value, form)


def _said(value: float, form: str, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.1f} %" if form == "percent" else f"{value:{sign}.3f}"
    return text.replace("-", "\u2212")


def _picture(path: Path, caption: str, image_format: ImageFormat) -> PictureView:
    """A picture file, at most `WIDEST_PX` wide. Raises: DamagedFile where it is none."""
    try:
        image = decode_image(path.read_bytes())
    except BadImage as error:
        raise DamagedFile(str(path), f"is no picture: {error.detail}", "remove it, or train on") from None
    height, width = image.shape[:2]
    if width > WIDEST_PX:
        image = resize_image(image, WIDEST_PX, max(1, round(height * WIDEST_PX / width)))
    return PictureView(_address(image, image_format), caption, image.shape[1], image.shape[0])


def _address(image: ImageU8, image_format: ImageFormat) -> str:
    """Lettering stays sharp in PNG; photographs are small in JPEG."""
    buffer = BytesIO()
    options: dict[str, Any] = {"optimize": True} if image_format == "png" else {"quality": JPEG_QUALITY}
    Image.fromarray(image, "RGB").save(buffer, image_format.upper(), **options)
    return data_url(buffer.getvalue(), image_format)
