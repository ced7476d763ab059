"""Builds whose model calls go to processes of their own: started once, watched, and each fault one line."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cases.editor_plugin import loads_noted, offer_stand_in
from tests.integration.builds import build, command, tars

Build = Callable[..., "subprocess.CompletedProcess[str]"]
SETTINGS = ("--scenes", "6", "--k", "2", "--part-requests", "2", "--editor", "stand-in", "--max-reject-share", "1")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the stand-in editor, whose package is installed."""
    folder = tmp_path / "notes"
    monkeypatch.setenv("PYTHONPATH", str(offer_stand_in(tmp_path / "packages", folder)))
    return folder


def facts(answer: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def fault(answer: "subprocess.CompletedProcess[str]") -> str:
    assert answer.returncode == 1, answer.stdout
    told = json.loads(answer.stderr)
    return f"{told['thing']}: {told['fault']}; {told['remedy']}"


def test_each_device_loads_once_and_any_number_of_them_makes_the_same_tars(tmp_path: Path, notes: Path) -> None:
    one = facts(build(tmp_path / "one", *SETTINGS, "--workers", "2", "--device", "stand-in:0"))
    assert loads_noted(notes) == ["stand-in:0"]
    (work,) = one["models"]
    assert (work["device"], work["loaded"], work["starts"], work["images"]) == ("stand-in:0", {"editor": 1}, 1, 12)
    assert 0 < work["busy_s"] < one["seconds"]
    (notes / "notes.txt").unlink()
    two = facts(build(tmp_path / "two", *SETTINGS, "--device", "stand-in:0,stand-in:1"))
    assert set(loads_noted(notes)) <= {"stand-in:0", "stand-in:1"}
    assert len(loads_noted(notes)) == len(set(loads_noted(notes)))
    assert sum(work["images"] for work in two["models"]) == 12
    assert len(tars(tmp_path / "one")) > 0
    assert tars(tmp_path / "one") == tars(tmp_path / "two")
    (notes / "notes.txt").unlink()
    assert facts(build(tmp_path / "two", *SETTINGS, "--device", "stand-in:2"))["parts_made"] == 0
    assert loads_noted(notes) == []


def test_outlines_are_the_same_whoever_draws_them_and_whoever_asks(tmp_path: Path) -> None:
    settings = ("--scenes", "6", "--k", "2", "--part-requests", "2", "--segmenter", "sam:tiny")
    found = {}
    for workers, model_workers in (("1", "1"), ("3", "2")):
        run = tmp_path / workers
        work = facts(build(run, *settings, "--workers", workers, "--model-workers", model_workers))["models"]
        assert sum(device["loaded"].get("outliner", 0) for device in work) == sum(
            device["calls"] > 0 for device in work
        )
        found[workers] = tars(run)
    assert len(found["1"]) > 0
    assert found["1"] == found["3"]


def test_a_model_process_that_dies_is_started_once_more_and_its_call_made_again(tmp_path: Path, notes: Path) -> None:
    (notes / "misdeed").write_text("die once")
    found = facts(build(tmp_path / "run", *SETTINGS, "--device", "stand-in:0"))
    assert [work["starts"] for work in found["models"]] == [2]
    assert loads_noted(notes) == ["stand-in:0"] * 2
    assert found["rows"] > 0


@pytest.mark.parametrize(
    ("misdeed", "said"),
    [
        ("die", "ended (exit code -9) while it worked on candidates part 0, 2 times"),
        ("hang", "worked on candidates part 0 for more than 4 s, 2 times"),
        ("raise", "asked for candidates part 0: raised ValueError: an odd one; its log has the rest"),
    ],
)
def test_a_model_that_fails_is_one_line_that_names_the_part_and_what_is_done_is_kept(
    tmp_path: Path, notes: Path, misdeed: str, said: str
) -> None:
    (notes / "misdeed").write_text(misdeed)
    run = tmp_path / "run"
    failed = build(run, *SETTINGS, "--device", "stand-in:0", "--model-timeout-s", "4")
    assert said in fault(failed)
    assert failed.stderr.count("\n") == 1
    (notes / "misdeed").unlink()
    again = facts(build(run, *SETTINGS, "--device", "stand-in:0"))
    assert 0 < again["parts_made"] < 12


def test_an_editor_that_answers_nan_is_named(tmp_path: Path, notes: Path) -> None:
    (notes / "misdeed").write_text("answer NaN")
    answer = build(tmp_path / "run", *SETTINGS, "--device", "stand-in:0")
    assert answer.returncode == 2
    assert json.loads(answer.stderr)["fault"] == "answered float64 of shape (64, 64, 3), no RGB image of uint8"


def test_a_device_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    settings = ("--scenes", "1", "--k", "1", "--segmenter", "sam:tiny", "--device", "cuda:7")
    answer = build(tmp_path / "run", *settings)
    assert answer.returncode == 2
    assert "cannot use device 'cuda:7': there is cpu" in json.loads(answer.stderr)["fault"]


def test_a_killed_build_leaves_no_model_process(tmp_path: Path, notes: Path) -> None:
    (notes / "misdeed").write_text("hang")
    with subprocess.Popen(command(tmp_path / "run", *SETTINGS, "--workers", "2")) as started:
        while not loads_noted(notes):
            assert started.poll() is None
        children = psutil.Process(started.pid).children(recursive=True)
        assert any("pipeline.lanes.process" in child.cmdline() for child in children)
        started.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_ctrl_c_finishes_the_parts_under_way_and_a_second_one_drops_them(tmp_path: Path, notes: Path) -> None:
    (notes / "misdeed").write_text("hang")
    arguments = command(tmp_path / "run", *SETTINGS, "--workers", "2")
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [word for word in arguments if word != "--json"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
    ) as started:
        assert started.stderr is not None
        while not loads_noted(notes):
            assert started.poll() is None
        children = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGINT)
        said = next(line for line in started.stderr if "interrupted" in line)
        assert said == "interrupted: the parts under way are finished; Ctrl-C again drops them\n"
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(2)
        os.killpg(started.pid, signal.SIGINT)
        _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "was interrupted" in errors
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    (notes / "misdeed").unlink()
    assert facts(build(tmp_path / "run", *SETTINGS, "--device", "stand-in:0"))["parts_made"] > 0
