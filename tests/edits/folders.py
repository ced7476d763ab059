"""Edits of the folder: files more or fewer, under other names, of other kinds.

Times and permissions of files are no contents, and what the tools of dataset hubs put into a folder (`.git`,
`.gitattributes`, `.cache`, `.huggingface`) is not the dataset's: no edit is one of these.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.edits.edit import CARD, NOTHING, Edit, a_tar, plain_member, tars, write_tar

FILES = ("manifest.json", "README.md")


def _a_file(draw: Random, folder: Path) -> Path:
    return draw.choice([*tars(folder), *(folder / name for name in FILES)])


def _more(*names: str) -> Callable[[Random, Path], None]:
    def change(draw: Random, folder: Path) -> None:
        (folder / draw.choice(names)).write_bytes(draw.randbytes(draw.randrange(50)))

    return change


def _odd_name(draw: Random, folder: Path) -> None:
    names = [b"x\ny.tar", b"\xff\xfe.tar", b"\x1b[31mred", b" ", b"-rf", "é".encode(), b"x" * 200, b"[bold]x"]
    with open(os.fsencode(folder) + b"/" + draw.choice(names), "wb"):
        pass


def _another_tar(draw: Random, folder: Path) -> None:
    name = draw.choice(["train-00009.tar", "train-00000.tar.bak", "train-0.tar", "train-00000 (1).tar", "x.tar"])
    source = draw.choice([None, a_tar(draw, folder)])
    if source:
        shutil.copy(source, folder / name)
    else:
        write_tar(folder / name, [plain_member("a.json", b"{}")])


def _second_manifest(draw: Random, folder: Path) -> None:
    name = draw.choice(["manifest.json.bak", "Manifest.json", "manifest (1).json", ".manifest.json", "manifest.json~"])
    shutil.copy(folder / "manifest.json", folder / name)


def _sub_folder(draw: Random, folder: Path) -> None:
    inner, file = folder / draw.choice(["old", ".old", "train", "x.tar"]), _a_file(draw, folder)
    inner.mkdir()
    if draw.random() < 0.6:
        shutil.copy(file, inner)


def _link_inside(draw: Random, folder: Path) -> None:
    targets = [a_tar(draw, folder).name, ".", "..", "/etc/hostname", "nowhere", "loop.tar"]
    (folder / draw.choice(["loop.tar", "link", "train-00007.tar"])).symlink_to(draw.choice(targets))


def _link_instead(draw: Random, folder: Path) -> None:
    path = _a_file(draw, folder)
    others = [other.name for other in tars(folder) if other != path]
    path.unlink()
    path.symlink_to(draw.choice([*others, "nowhere", path.name, "/dev/null", "/dev/zero", "."]))


def _gone(draw: Random, folder: Path) -> None:
    a_tar(draw, folder).unlink()


def _manifest_gone(draw: Random, folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _several_gone(draw: Random, folder: Path) -> None:
    for path in draw.sample(tars(folder), 2):
        path.unlink()


def _renamed(draw: Random, folder: Path) -> None:
    path = _a_file(draw, folder)
    name = path.name
    path.rename(folder / draw.choice([name.upper(), name.capitalize() + "x", "x" + name, name + ".part", name[:-1]]))


def _folder_instead(draw: Random, folder: Path) -> None:
    path = _a_file(draw, folder)
    if draw.random() < 0.5:
        path.unlink()
        path.mkdir()
        return
    path.rename(folder / "aside")
    path.mkdir()
    (folder / "aside").rename(path / path.name)


def _fifo_instead(draw: Random, folder: Path) -> None:
    path = _a_file(draw, folder)
    path.unlink()
    os.mkfifo(path)


def _fifo_more(draw: Random, folder: Path) -> None:
    os.mkfifo(folder / draw.choice(["pipe", "train-00008.tar"]))


def _emptied(draw: Random, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _all_gone(draw: Random, folder: Path) -> None:
    shutil.rmtree(folder)


def _a_file_instead(draw: Random, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"x")


def _contents_exchanged(draw: Random, folder: Path) -> None:
    a, b = draw.sample([*tars(folder), *(folder / name for name in FILES)], 2)
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)


def _only(name: str, change: Callable[[Random, Path], None]) -> Edit:
    return Edit(f"folder: {name}", change, CARD, (NOTHING,))


EDITS = (
    _only("a file more", _more("notes.txt", "train-00000.idx", "x", "README", "dataset.parquet")),
    _only("a hidden file more", _more(".DS_Store", ".x", ".gitignore", "._train-00000.tar")),
    _only("an old temporary file", _more(".train-00000.tar.tmp", "train-00000.tar.part", ".tmp-1", "tmp1a2b")),
    _only("an odd name", _odd_name),
    _only("a tar more", _another_tar),
    _only("a second manifest", _second_manifest),
    _only("a folder in it", _sub_folder),
    _only("a link in it", _link_inside),
    _only("a link instead of a file", _link_instead),
    _only("a tar gone", _gone),
    _only("manifest gone", _manifest_gone),
    _only("several tars gone", _several_gone),
    _only("a file renamed", _renamed),
    _only("a folder instead of a file", _folder_instead),
    _only("a pipe instead of a file", _fifo_instead),
    _only("a pipe more", _fifo_more),
    _only("emptied", _emptied),
    _only("gone", _all_gone),
    _only("a file instead of it", _a_file_instead),
    _only("two files' contents exchanged", _contents_exchanged),
)
