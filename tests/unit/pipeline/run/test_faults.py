"""An error that nobody expected reaches the user with stage, part and request."""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipeline.run.faults import of_part, of_request
from schemas.errors import BadInput, OutOfMemory, RegionwiseError, StageFailed


def _fail(run: Path, error: Exception) -> None:
    def stage(rows: Iterable[str]) -> Iterator[str]:
        for name in rows:
            with of_request(name):
                if name == "second":
                    raise error
                yield name

    with of_part(run, "candidates", 7):
        list(stage(["first", "second", "third"]))


def test_stage_part_and_request_are_named_and_the_traceback_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StageFailed) as caught:
        _fail(tmp_path, ZeroDivisionError("division by zero"))
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.thing, error.exit_code) == ("stage candidates, part-00007, request 'second'", 1)
    assert error.fault == "ended with ZeroDivisionError: division by zero"
    assert "candidates/part-00007.error.txt" in error.remedy
    report = tmp_path / "candidates" / "part-00007.error.txt"
    assert "in stage\n" in report.read_text()
    with of_part(tmp_path, "candidates", 7):
        pass
    assert not report.exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried to allocate 9 bytes")])
def test_memory_that_ran_out_is_said_as_such(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(StageFailed, match=r"part-00007, request 'second': ran out of memory; give each worker more"):
        _fail(tmp_path, error)


@pytest.mark.parametrize("error", [BadInput("a", "is b", "do c"), OutOfMemory("model", "needs more")])
def test_what_names_its_thing_itself_passes(tmp_path: Path, error: RegionwiseError) -> None:
    with pytest.raises(type(error)) as caught:
        _fail(tmp_path, error)
    assert caught.value is error


def test_an_interrupt_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), of_part(tmp_path, "gates", 1), of_request("a"):
        raise KeyboardInterrupt
