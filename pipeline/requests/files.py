"""Request files, read line by line: JSONL, CSV, Parquet, and folders with one of them.

Read are JSONL, CSV and Parquet files of `RequestLine`s, and folders that hold a `requests.jsonl`, `.csv` or `.parquet`.
Lines go into the plan as they are; what is wrong with one becomes a reject in the first stage. Paths in a line are
relative to the file's folder and may not leave it; remote addresses are refused.
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.requests.fields import LINE_MAX_BYTES, TOO_LONG, ReadLine, fields_of_text
from pipeline.requests.tables import check_not_utf16, read_csv, read_parquet
from pipeline.run.plan import PlannedLine
from runtime.images import MAX_FILE_BYTES, BadImage, ImageU8, decode_image, pixel_count
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput

REQUEST_FILE_NAMES = ("requests.jsonl", "requests.csv", "requests.parquet")


def request_file(path: Path) -> Path:
    """The request file that a user's path means: itself, or the one inside a folder. Raises: BadInput."""
    path = _as_spelt(Path(path.anchor), str(path.relative_to(path.anchor)))
    if path.is_file():
        return path
    if not path.exists():
        raise BadInput(str(path), "does not exist", "give a JSONL, CSV or Parquet file, or a folder with one")
    found = [path / name for name in REQUEST_FILE_NAMES if (path / name).is_file()]
    if len(found) != 1:
        fault = "has no request file" if not found else "has more than one request file"
        raise BadInput(str(path), fault, f"put one of {', '.join(REQUEST_FILE_NAMES)} in it")
    return found[0]


def read_request_file(path: Path, number: int = 0) -> Iterator[PlannedLine]:
    """The lines of a request file, the run's `number`th, bad ones with their fault.

    Raises: BadInput where the file as a whole is wrong.
    """
    readers = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(str(path), "is of no known kind", f"give one of {', '.join(readers)}")
    root, name = str(path.resolve().parent), path.name.encode(errors="replace").decode()
    empty = True
    for line_number, line, fault in reader(path):
        empty = False
        yield PlannedLine(place=f"{name}:{line_number}", file=number, root=root, line=line, fault=fault)
    if empty:
        raise BadInput(str(path), "has no requests", "write one request per line")


def _read_jsonl(path: Path) -> Iterator[tuple[int, *ReadLine]]:
    check_not_utf16(path)
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LINE_MAX_BYTES + 1):
            number += 1
            if len(raw) > LINE_MAX_BYTES:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LINE_MAX_BYTES)
                yield number, None, TOO_LONG
            elif raw.strip():
                yield number, *fields_of_text(raw)


def read_outside_image(root: Path, path: str) -> ImageU8:
    """The image at `path` below `root`, HWC uint8 RGB.

    Raises: BadImage with reason `remote_refused`, `path_outside`, `missing_file`, or one of `decode_image`;
    MemoryError.
    """
    file = _outside_file(root, path)
    try:
        return decode_image(file.read_bytes())
    except OSError as error:
        if is_out_of_memory(error):
            raise MemoryError(path) from None
        raise BadImage("missing_file", _why(error)) from None


def outside_pixels(root: Path, path: str) -> int:
    """How many pixels the image at `path` below `root` has, by its header; 0 where it cannot be used."""
    try:
        with _outside_file(root, path).open("rb") as file:
            return pixel_count(file)
    except (BadImage, OSError):
        return 0


def is_there(root: Path, path: str) -> bool:
    """Whether a line's path below `root` is a file; of a remote address, which is no file's, it says so too."""
    try:
        return "://" in path or _as_spelt(root, path).is_file()
    except (OSError, ValueError):
        return False


def _outside_file(root: Path, path: str) -> Path:
    """The file at `path` below `root`. Raises: BadImage where there is none that may be read."""
    if "://" in path:
        raise BadImage("remote_refused", "remote sources are off; copy the file into the folder")
    try:
        file = _as_spelt(root, path).resolve()
        inside = file.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise BadImage("missing_file", _why(error)) from None
    if not inside:
        raise BadImage("path_outside", "the path leaves the request file's folder")
    try:
        if not file.is_file():
            raise BadImage("missing_file", f"no such file{_hint(root, path)}")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise BadImage("too_large", f"the file has {file.stat().st_size} bytes")
    except OSError as error:
        raise BadImage("missing_file", _why(error)) from None
    return file


def _why(error: Exception) -> str:
    """In plain words why a file is not found."""
    if isinstance(error, RuntimeError):
        return "is a link that leads round in a circle"
    return (isinstance(error, OSError) and error.strerror) or "is no name of a file"


def _as_spelt(root: Path, path: str) -> Path:
    """`path` below `root`, or the file that people see by that name: in another Unicode form, / written as \\."""
    if (root / path).exists():
        return root / path
    found = root
    for part in PurePosixPath(path.replace("\\", "/")).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        found = next((found / form for form in forms if (found / form).exists()), found / part)
    return found if found.exists() else root / path


def _hint(root: Path, path: str) -> str:
    if path != path.strip() and _as_spelt(root, path.strip()).is_file():
        return "; there is one without the spaces around its name"
    return "; paths are relative to the request file's folder"
