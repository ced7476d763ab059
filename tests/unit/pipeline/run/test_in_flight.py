"""Which rows a unit works on, as a process that dies leaves it behind, and what the next attempt makes of it."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import stages_of
from pipeline.build_models import LocalModels
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run
from pipeline.regions.outline import Pair
from pipeline.run.folder import read_done, read_kept, read_rows
from pipeline.run.in_flight import DEATHS_MAX, InFlight, in_flight, marker_path, read_marker, work_of
from pipeline.run.plan import PlannedLine, read_plan
from pipeline.run.stage import PartImages, Stage, run_part
from pipeline.stages import regions, requests
from schemas.errors import RegionwiseError
from schemas.sample import Rejection, Sample

SCENES = BuildConfig(scenes=3, scene_size_px=64, part_requests=3, k=2)


def die(run: Path, stage: str, at: Callable[[InFlight], object], invocation: str = "a") -> None:
    """Leaves the marker of part 0 as a process does that is killed after `at`."""
    path = marker_path(run, stage, 0)
    with in_flight(run, stage, 0, invocation) as unit:
        at(unit)
        left = path.read_bytes()
    path.write_bytes(left)


def deaths(run: Path, stage: str, invocation: str = "a") -> dict[str, int]:
    with in_flight(run, stage, 0, invocation) as unit:
        return unit.deaths


def test_a_marker_stands_while_its_unit_is_under_way(tmp_path: Path) -> None:
    path = marker_path(tmp_path, "regions", 0)
    with in_flight(tmp_path, "regions", 0, "a") as unit:
        unit.begin(["one", "two"])
        marker = read_marker(path)
        assert marker is not None
        assert (marker.invocation, marker.pid, marker.working, marker.deaths) == ("a", os.getpid(), ("one", "two"), {})
    assert list(path.parent.iterdir()) == []
    with pytest.raises(ZeroDivisionError), in_flight(tmp_path, "regions", 0, "a"):
        divmod(1, 0)
    assert list(path.parent.iterdir()) == []


def test_each_row_in_flight_counts_a_death_and_only_of_the_same_command(tmp_path: Path) -> None:
    die(tmp_path, "regions", lambda unit: unit.begin(["one", "two"]))
    die(tmp_path, "regions", lambda unit: unit.begin(["two"]))  # shorter than what stood there before
    die(tmp_path, "regions", lambda unit: unit.begin())
    left = marker_path(tmp_path, "regions", 0).read_bytes()
    assert deaths(tmp_path, "regions") == {"one": 1, "two": 2, "": 1}
    marker_path(tmp_path, "regions", 0).write_bytes(left)
    assert deaths(tmp_path, "regions", "another command") == {}
    assert deaths(tmp_path, "regions") == {}  # a unit that ended has none
    die(tmp_path, "regions", lambda unit: unit.begin(["one"]), invocation="")
    assert deaths(tmp_path, "regions", "") == {}


def test_a_death_while_the_unit_waited_for_its_turn_is_none_of_its_own(tmp_path: Path) -> None:
    die(tmp_path, "regions", lambda unit: unit.begin(["one"]))
    path = marker_path(tmp_path, "regions", 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"working": None, "deaths": {"one": 1}}))
    assert deaths(tmp_path, "regions") == {"one": 1}


def test_a_model_that_does_not_fit_is_no_fault_of_the_row_that_asked_first(tmp_path: Path) -> None:
    def load() -> str:
        working.append(unit.working)
        return "model"

    working: list[object] = []
    with in_flight(tmp_path, "regions", 0, "a") as unit:
        images = PartImages(tmp_path, None, unit)
        images.begin(["one"])
        assert images.between_rows(load) == "model"
        working.append(unit.working)
    assert working == [(), ("one",)]


def test_units_that_died_run_one_at_a_time_in_a_process(tmp_path: Path) -> None:
    """And wait without being at work: they would share the blame for the next death."""
    for stage in ("regions", "gates"):
        die(tmp_path, stage, lambda unit: unit.begin(["one"]))
    waits = marker_path(tmp_path, "gates", 0)
    with ThreadPoolExecutor(2) as threads:
        with in_flight(tmp_path, "regions", 0, "a"):
            waiting = threads.submit(deaths, tmp_path, "gates")
            while (marker := read_marker(waits)) is None or marker.working == ("one",):
                assert not waiting.done()
            assert marker.working is None
            assert threads.submit(deaths, tmp_path, "candidates").result(60) == {}
            assert not waiting.done()
        assert waiting.result(60) == {"one": 1}


def test_deaths_at_no_row_end_the_build_with_a_line(tmp_path: Path) -> None:
    for _ in range(DEATHS_MAX):
        die(tmp_path, "regions", lambda unit: None)
    with pytest.raises(RegionwiseError, match=r"regions part 0 of .* at none of its requests"):
        deaths(tmp_path, "regions")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 10_000, '{"invocation": "a", "pid": 1, "working": 3, "deaths": {}}']
)
def test_what_is_no_marker_counts_nothing(tmp_path: Path, text: str) -> None:
    path = marker_path(tmp_path, "regions", 0)
    path.parent.mkdir()
    path.write_text(text)
    assert deaths(tmp_path, "regions") == {}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its plan and its first stage."""
    folder = tmp_path_factory.mktemp("flight") / "run"
    prepare_run(folder, SCENES)
    run_part(folder, stages_of(SCENES, {}, LocalModels(SCENES))[0], 0, plan_rows=read_plan)
    return folder


class _Listening(InFlight):
    """Keeps all that was said."""

    said: tuple[tuple[str, ...], ...] = ()

    def begin(self, keys: Iterable[str] = ()) -> None:
        super().begin(now := tuple(keys))
        self.said += (now,)


def test_every_stage_says_each_row_before_it_touches_it(run: Path, tmp_path: Path) -> None:
    with (tmp_path / "marker").open("wb") as file:
        for stage in stages_of(SCENES, {}, LocalModels(SCENES)):
            unit = _Listening(Path(file.name), file.fileno(), "a", {})
            again = replace(stage, version=99)
            run_part(run, again, 0, plan_rows=read_plan, in_flight=unit)
            rows = read_kept(run, stage.after, 0) if stage.after else read_plan(run / "plan" / "part-00000.jsonl")
            keys = [row.place if isinstance(row, PlannedLine) else row.key for row in rows]
            assert [key for said in dict.fromkeys(unit.said) for key in said] == keys
            assert unit.said[-1] == ()


def _rerun(run: Path, stage: Stage, version: int) -> list[Sample | Rejection]:
    with in_flight(run, stage.name, 0, "a") as unit:
        run_part(run, replace(stage, version=version), 0, plan_rows=read_plan, in_flight=unit)
    return list(read_rows(run, stage.name, 0))


def test_a_line_that_died_three_times_is_a_reject_in_its_place(tmp_path: Path) -> None:
    prepare_run(tmp_path, SCENES)
    stages = stages_of(SCENES, {}, LocalModels(SCENES))
    first, second, third = (_rerun(tmp_path, stage, 1) for stage in stages[:3])
    for _ in range(DEATHS_MAX):
        die(tmp_path, "regions", lambda unit: unit.begin([third[2].key]))
        die(tmp_path, "candidates", lambda unit: unit.begin([first[1].key]))
    died = _rerun(tmp_path, stages[2], 2)
    assert [row.key for row in died] == [row.key for row in third]
    assert [row.key for row in died if isinstance(row, Rejection)] == [third[2].key]
    died = _rerun(tmp_path, stages[1], 2)
    assert [row.key for row in died] == [*(row.key for row in second[:2]), first[1].key, *(r.key for r in second[4:])]
    reject = died[2]
    assert isinstance(reject, Rejection)
    assert (reject.stage, reject.reason, reject.sample) == ("candidates", "kills_worker", first[1])
    assert repr(reject.name) in reject.detail
    done = read_done(tmp_path, "candidates", 0)
    assert done is not None
    assert (done.rows_in, done.kept, done.rejected) == (3, 4, {"kills_worker": 1})
    for _ in range(DEATHS_MAX):
        die(tmp_path, "requests", lambda unit: unit.begin(["scene 0/0, render 0", "scene 0/1, render 0"]))
    died = _rerun(tmp_path, stages[0], 2)
    assert [row.key for row in died] == ["scene 0/0, render 0", "scene 0/1, render 0", first[2].key]


def test_two_deaths_do_not_give_a_row_up(tmp_path: Path, run: Path) -> None:
    first = list(read_rows(run, "requests", 0))
    for _ in range(DEATHS_MAX - 1):
        die(run, "requests", lambda unit: unit.begin(["scene 0/1, render 0"]))
    assert _rerun(run, stages_of(SCENES, {}, LocalModels(SCENES))[0], 2) == first


def test_what_a_lost_process_worked_on_in_words(run: Path) -> None:
    rows = list(read_kept(run, "requests", 0))
    die(run, "candidates", lambda unit: unit.begin([rows[1].key]))
    die(run, "regions", lambda unit: None)
    name = rows[1].request.name
    assert work_of(run, [os.getpid()]) == f"request {name!r} of candidates part 0; regions part 0"
    assert work_of(run, [1]) == ""


def test_a_row_that_died_is_outlined_alone(run: Path) -> None:
    run_part(run, stages_of(SCENES, {}, LocalModels(SCENES))[1], 0, plan_rows=read_plan)
    rows = list(read_kept(run, "candidates", 0))
    images = PartImages(run, None)
    pairs = [(row, _pair(row, images)) for row in rows]

    def sizes(suspects: set[str]) -> list[int]:
        return [len(chunk) for chunk in regions._chunks(pairs, suspects)]

    assert sizes(set()) == [6]
    assert sizes({rows[2].key}) == [2, 1, 3]
    assert sizes({rows[0].key, rows[5].key}) == [1, 4, 1]


def _pair(row: Sample, images: PartImages) -> Any:
    assert row.edited is not None
    return Pair(row.request, images.read(row.sources[0]), images.read(row.edited))


def test_a_line_that_died_is_detected_alone() -> None:
    opened: list[Any] = [(place, None, None) for place in "abcdef"]
    assert [len(chunk) for chunk in requests._chunks(opened, ())] == [6]
    assert [len(chunk) for chunk in requests._chunks(opened, {"c"})] == [2, 1, 3]
