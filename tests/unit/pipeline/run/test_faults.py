"""An error that nobody expected reaches the user with stage, part and request; lost workers' parts are named."""

import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from pipeline.run.faults import naming_lost_parts, of_part, of_request
from runtime.files import write_whole
from schemas.errors import BadInput, OutOfMemory, RegionwiseError, StageFailed
from schemas.manifest import PartDone


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


def _begun(run: Path, stage: str, part: int, attempts: int) -> None:
    write_whole(run / stage / f"part-{part:05d}.attempts", str(attempts))


def _done(run: Path, stage: str, part: int, attempts: int) -> None:
    done = PartDone(
        stage=stage, part=part, input_digest="0" * 64, files=(), rows_in=0, kept=0, rejected={}, seconds=0,
        attempts=attempts,
    )  # fmt: skip
    write_whole(run / stage / f"part-{part:05d}.done.json", done.model_dump_json())


def test_the_parts_that_a_lost_worker_had_begun_are_named(tmp_path: Path) -> None:
    _begun(tmp_path, "regions", 5, 1)  # of an earlier build that was killed; this one does not come to it

    def work() -> None:
        _begun(tmp_path, "requests", 0, 1)
        _done(tmp_path, "requests", 0, 1)
        _begun(tmp_path, "requests", 1, 2)
        _done(tmp_path, "requests", 1, 1)
        _begun(tmp_path, "candidates", 0, 1)
        raise BrokenProcessPool

    with pytest.raises(RegionwiseError) as caught, naming_lost_parts(tmp_path):
        work()
    assert caught.value.thing == "a worker process"
    assert caught.value.fault == (
        "ended while it worked on requests part-00001, candidates part-00000 (out of memory, or killed)"
    )
