"""Copies the example photographs out of the installed scikit-image and scikit-learn packages; never downloads.

Run as `python examples/photos/copy_photos.py [FOLDER]`; without FOLDER they go to `images/` beside this file.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

#: (package, folder inside it, names of the photographs), as scikit-image 0.26 and scikit-learn 1.9 ship them.
PHOTOS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "skimage",
        "data",
        (
            "astronaut.png",
            "camera.png",
            "chelsea.png",
            "clock_motion.png",
            "coffee.png",
            "coins.png",
            "hubble_deep_field.jpg",
            "moon.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "page.png",
            "retina.jpg",
            "rocket.jpg",
        ),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
)
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


class PhotoMissing(Exception):
    """A package or one of its photographs is not installed; the message is one line."""


def copy_photos(folder: Path) -> tuple[int, int]:
    """Copies every photograph into `folder`, made where it is missing; a file that is there already is left alone.

    Returns: (photographs, how many of them were written now).
    Raises: PhotoMissing, before anything is written, where a package or a file is not there.
    """
    sources = [source for package, inside, names in PHOTOS for source in find_photos(package, inside, names)]
    folder.mkdir(parents=True, exist_ok=True)
    written = sum(_copy_if_changed(source, folder / source.name) for source in sources)
    return len(sources), written


def find_photos(package: str, inside: str, names: Sequence[str]) -> list[Path]:
    """The paths of `names` in the folder `inside` of an installed package, without importing it.

    Raises: PhotoMissing.
    """
    remedy = f"pip install --force-reinstall {DISTRIBUTIONS.get(package, package)}"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PhotoMissing(f"{package}: is not installed; {remedy}")
    folder = Path(spec.submodule_search_locations[0]) / inside
    for name in names:
        if not (folder / name).is_file():
            raise PhotoMissing(f"{name}: is not in the installed package {package} ({inside}/); {remedy}")
    return [folder / name for name in names]


def _copy_if_changed(source: Path, target: Path) -> bool:
    data = source.read_bytes()
    if target.is_file() and target.read_bytes() == data:
        return False
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(target)
    return True


def main(arguments: Sequence[str]) -> int:
    """Copies the photographs and prints one line. Returns: exit code 0, or 2 with one line on stderr."""
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print("usage: python examples/photos/copy_photos.py [FOLDER]", file=sys.stderr)
        return 2
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent / "images"
    try:
        total, written = copy_photos(folder)
    except (PhotoMissing, OSError) as error:
        print(f"copy_photos: {error}", file=sys.stderr)
        return 2
    print(f"{total} photographs in {folder} ({written} copied now)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
