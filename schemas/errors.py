"""The errors of regionwise.

    RegionwiseError            exit code 1: failed
    ├── BadInput               exit code 2: a file, an input or a setting is wrong
    │   ├── NewerSchema        a document of a later version than this one reads
    │   ├── RunConflict        a run folder made with another config
    │   └── MissingPackage     a backend's package is not installed
    ├── RunInUse               exit code 1: another process works on the run folder
    ├── NoRoom                 exit code 2: a disk is full; with room the same command goes on
    ├── DamagedFile            exit code 1: a file that is not what its manifest says
    ├── OutOfMemory            exit code 1: a model needs more memory than there is
    ├── StageFailed            exit code 1: a stage ended with an error that nobody expected
    └── TooManyRejected        exit code 3: more rejected than the allowed share

Each names the thing, what is wrong with it (the fault) and what to do (the remedy), on one line.
A fault of one row is no error but a `schemas.sample.Rejection`.
"""

from errno import ENOSPC


class RegionwiseError(Exception):
    """The base: `thing`, `fault` and `remedy` make the one line a person reads."""

    exit_code = 1

    def __init__(self, thing: str, fault: str, remedy: str = "") -> None:
        self.thing, self.fault, self.remedy = _one_line(thing), _one_line(fault), _one_line(remedy)
        super().__init__(f"{self.thing}: {self.fault}" + (f"; {self.remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type["RegionwiseError"], tuple[str, str, str]]:
        return type(self), (self.thing, self.fault, self.remedy)

    def as_json(self) -> dict[str, str | int]:
        """The form that `--json` prints: code, thing, fault, remedy."""
        return {"code": self.exit_code, "thing": self.thing, "fault": self.fault, "remedy": self.remedy}


class BadInput(RegionwiseError):
    """A file, an input or a setting is wrong as a whole."""

    exit_code = 2


class NewerSchema(BadInput):
    """A document of a later schema version than this version reads."""

    def __init__(self, thing: str, fault: str, remedy: str = "update regionwise") -> None:
        super().__init__(thing, fault, remedy)


class RunConflict(BadInput):
    """A run folder that was made with another config."""


class MissingPackage(BadInput):
    """A backend whose package is not installed; the remedy is the install line."""


class RunInUse(RegionwiseError):
    """Another process works on the run folder."""


class NoRoom(RegionwiseError, OSError):
    """A disk that is full, or a share of it that is used up: what is done is kept, and the user makes room."""

    exit_code = 2

    def __init__(self, thing: str, fault: str, remedy: str) -> None:
        super().__init__(thing, fault, remedy)
        self.errno = ENOSPC


class DamagedFile(RegionwiseError):
    """A file that is not what its manifest or done-file says."""


class OutOfMemory(RegionwiseError, MemoryError):
    """A model that needs more memory for one item than there is."""


class StageFailed(RegionwiseError):
    """A stage that ended on one of its parts with an error that nobody expected."""


class TooManyRejected(RegionwiseError):
    """More rows were rejected than the allowed share."""

    exit_code = 3


def printable(text: str) -> str:
    """`text` without anything that a terminal would take for a command."""
    return "".join(character if character.isprintable() else " " for character in text)


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())[:500]
