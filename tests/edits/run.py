"""Edits a dataset in every way that anybody thought of, and asks whether that is found and mended: `make edits`.

Each edit befalls a copy of a small dataset that lies alone. `regionwise verify` must say which file differs and how; an
edit whose maker rewrote all that follows from it is found by `--expect DIGEST` at the latest. Then the folder is put
back into its run, and after `regionwise repair` it must be the exported one again, byte for byte, or repair says what
it left as it is. `python -m tests.edits.run --kind "tar: cut" --seed 7` tries one kind. Exit code 1 where an edit was
not found, something crashed or hung, or the folder was not mended in silence.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from flows.cli import main as regionwise
from runtime.checkout import checkout_commit
from tests.edits import archives, documents, folders, rows
from tests.edits.consistency import rewrite
from tests.edits.edit import LEVELS, Edit
from tests.edits.ground import built

EDITS = (*archives.EDITS, *rows.EDITS, *documents.EDITS, *folders.EDITS)
#: Longer than any of the commands takes on such a dataset.
HANG_S = 30
FOUND, EXPECTED, MISSED, CRASHED = "found", "only by --expect", "NOT FOUND", "CRASH"
MENDED, TOLD, SILENT = "mended", "told", "NOT MENDED"

Tree = dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class Outcome:
    """What became of one edit: by verify and, where it was asked, by repair."""

    number: int
    kind: str
    level: str
    verify: str
    said: str
    repair: str | None
    repair_said: str

    @property
    def held(self) -> bool:
        """Whether the edit was found as it must be, and mended or told."""
        return self.verify in (FOUND, EXPECTED) and self.repair in (MENDED, TOLD, None)


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code; None where it crashed or hung."""

    code: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}".strip()


class _Hung(Exception):
    pass


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def hung(number: int, frame: object) -> None:
        raise _Hung(f"nothing after {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def asked(*arguments: object) -> Said:
    """Runs a command in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code: int | None = None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            with _no_longer_than(HANG_S):
                regionwise([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # whatever it is, it is no way to end
            err.write(traceback.format_exc())
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Said(code, *texts)


def tree(folder: Path) -> Tree:
    """What lies in a folder: of each path what it is, and its bytes or where it leads."""
    if not folder.is_dir():
        return {".": ("no folder", b"")}
    paths = (Path(place, name) for place, inner, files in os.walk(folder) for name in [*inner, *files])
    return {os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace"): _node(path) for path in paths}


def _node(path: Path) -> tuple[str, bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link", os.fsencode(os.readlink(path))
    if stat.S_ISREG(mode):
        return "file", path.read_bytes()
    return ("folder" if stat.S_ISDIR(mode) else "other"), b""


def _says_the_same(a: Tree, b: Tree) -> bool:
    """Whether two manifests differ in spaces and the order of their fields alone, which are no contents of theirs."""
    try:
        one, other = (json.loads(tree["manifest.json"][1].decode(), object_pairs_hook=_fields) for tree in (a, b))
    except (KeyError, ValueError, RecursionError):
        return False
    return bool(one == other and repr(one) == repr(other))


def _fields(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return sorted(pairs, key=lambda pair: pair[0])


def differing(a: Tree, b: Tree) -> list[str]:
    """The paths at which two folders differ."""
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))


class Grounds:
    """A run with its dataset, and what they are when nothing has happened to them."""

    def __init__(self, folder: Path) -> None:
        self.run = built(folder)
        self._dataset = shutil.copytree(self.run / "dataset", folder / "kept" / "dataset")
        self._rest = shutil.copytree(self.run, folder / "kept" / "run", ignore=shutil.ignore_patterns("dataset"))
        self.alone = folder / "alone" / "copy"
        self.whole = tree(self._dataset)
        self._whole_rest = self._rest_of_run()
        self.digest = str(json.loads((self._dataset / "manifest.json").read_bytes())["digest"])

    def lay_out(self) -> Path:
        """The dataset by itself, whole."""
        _remove(self.alone)
        return shutil.copytree(self._dataset, self.alone)

    def put_back(self) -> None:
        """Puts what lies alone into the run; the rest of the run is whole."""
        _remove(self.run / "dataset")
        if self._rest_of_run() != self._whole_rest:
            shutil.rmtree(self.run)
            shutil.copytree(self._rest, self.run)
        if os.path.lexists(self.alone):
            self.alone.rename(self.run / "dataset")

    def _rest_of_run(self) -> Tree:
        names = sorted(path for path in self.run.iterdir() if path.name != "dataset" and path.is_dir())
        return {f"{path.name}/{name}": node for path in names for name, node in tree(path).items()}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def try_edit(grounds: Grounds, number: int, edit: Edit, level: int, draw: Random, mend: bool = True) -> Outcome | None:
    """Edits the dataset once; None where the draw changed nothing."""
    folder = grounds.lay_out()
    edit.change(draw, folder)
    rewrite(folder, level)
    edited = tree(folder)
    changed = differing(edited, grounds.whole)
    if not changed or (changed == ["manifest.json"] and _says_the_same(edited, grounds.whole)):
        return None
    found, said = _verified(grounds, folder, edit, level, changed)
    mended, mending = _mended(grounds, edited) if mend else (None, "")
    return Outcome(number, edit.name, LEVELS[level], found, said, mended, mending)


def _verified(grounds: Grounds, folder: Path, edit: Edit, level: int, changed: Sequence[str]) -> tuple[str, str]:
    said = asked("verify", folder)
    if said.code == 0 and level > edit.until:
        said = asked("verify", folder, "--expect", grounds.digest)
        return (EXPECTED if said.code == 1 else MISSED if said.code == 0 else CRASHED), said.text
    if said.code == 0:
        return MISSED, said.text
    if said.code == 1 and not said.err and any(_names(line, changed) for line in said.out.splitlines()):
        return FOUND, said.text
    plain = said.code == 2 and not said.out and len(said.err.splitlines()) == 1
    return (FOUND if plain else CRASHED), said.text


def _names(line: str, changed: Sequence[str]) -> bool:
    """Whether a line of verify names one of the changed files, or what an edited manifest says wrongly of others."""
    if ": " not in line or line.startswith(("ok: ", "damaged: ")):
        return False
    if "manifest.json" in changed:
        return True
    return any(line.startswith(path) or f" {path}" in line for path in map(_shown, changed))


def _shown(path: str) -> str:
    """As much of a path as every terminal shows alike."""
    return re.split(r"[^ -~]|\\", path)[0]


def _mended(grounds: Grounds, edited: Tree) -> tuple[str, str]:
    grounds.put_back()
    said = asked("repair", "--run", grounds.run, "--json")
    after = tree(grounds.run / "dataset")
    left = differing(after, grounds.whole)
    if said.code is None:
        return CRASHED, said.text
    if not left:
        return (MENDED if said.code == 0 else SILENT), said.text
    named = json.loads(said.out)["left"] if said.code == 0 else []
    told = all(after.get(path) == edited.get(path) and _first(path) in map(_visible, named) for path in left)
    return (TOLD if told else SILENT), f"{', '.join(left)} differ; {said.text}"


def _first(path: str) -> str:
    return path.split("/")[0]


def _visible(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def tried(grounds: Grounds, kinds: Sequence[Edit], seed: int, count: int, mend: bool = True) -> Iterator[Outcome]:
    """`count` edits, each kind in its turn at each of its levels."""
    made = number = 0
    while made < count and number < 3 * count:
        edit = kinds[number % len(kinds)]
        level = edit.levels[(number % len(kinds) + number // len(kinds) + seed) % len(edit.levels)]
        outcome = try_edit(grounds, number, edit, level, Random(f"{seed}/{number}/{edit.name}"), mend)
        number += 1
        if outcome is not None:
            made += 1
            yield outcome


def show(outcomes: Sequence[Outcome]) -> None:
    """The table of results, and each edit that was not as it must be."""
    by_kind = defaultdict[str, list[Outcome]](list)
    for one in outcomes:
        by_kind[one.kind].append(one)
    columns = (FOUND, EXPECTED, MISSED, CRASHED, MENDED, TOLD, SILENT)
    table = Table("kind", "edits", *columns, title="edits")
    for kind, some in (*by_kind.items(), ("all", list(outcomes))):
        counts = Counter(word for one in some for word in (one.verify, one.repair))
        table.add_row(kind, str(len(some)), *(str(counts[column] or "") for column in columns))
    console = Console(width=150)
    console.print(table, markup=False)
    for one in outcomes:
        if not one.held:
            said = one.said if one.verify not in (FOUND, EXPECTED) else one.repair_said
            words = f"{one.number} {one.kind}, rewritten: {one.level}: {one.verify}, {one.repair}: {said[-600:]}"
            console.print(words, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{sum(one.held for one in outcomes)} of {len(outcomes)} edits held")


def write(outcomes: Iterable[Outcome], path: Path, seed: int) -> None:
    """The results with the commit, as JSON."""
    found = {"commit": checkout_commit(), "seed": seed, "edits": [asdict(one) for one in outcomes]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the edits that are asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.edits.run", description=__doc__)
    parser.add_argument("--kind", action="append", choices=[edit.name for edit in EDITS], help="these kinds alone")
    parser.add_argument("--count", type=int, default=1000, help="how many edits [default: 1000]")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other edits [default: 1]")
    parser.add_argument("--no-repair", action="store_true", help="verify alone")
    parser.add_argument("--json", type=Path, default=None, help="where the results are written, too")
    given = parser.parse_args(arguments)
    kinds = [edit for edit in EDITS if not given.kind or edit.name in given.kind]
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        grounds = Grounds(Path(folder).resolve())
        outcomes = list(tried(grounds, kinds, given.seed, given.count, not given.no_repair))
    show(outcomes)
    print(f"seed {given.seed}, {time.process_time() - started:.0f} s of CPU")
    if given.json:
        write(outcomes, given.json, given.seed)
    return 0 if all(one.held for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
