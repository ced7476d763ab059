"""The candidates stage: what an editor refuses, and candidates that requests bring along."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit, Edit, Editor
from pipeline.gates.measures import GateSettings
from pipeline.run.plan import PlannedLine
from pipeline.stages.candidates import make_candidates
from pipeline.stages.requests import open_requests
from schemas.sample import Rejection, Sample
from tests.cases.part_images import InMemory


def _photo(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(path)


def _edit(path: Path, seed: int) -> None:
    """`_photo` 0 with a patch."""
    edited = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    edited[20:60, 20:60] = 20 * seed
    Image.fromarray(edited).save(path)


def _made(
    folder: Path, k: int = 4, editor: Callable[[], Editor] = ProceduralEditor, **fields: Any
) -> list[Sample | Rejection]:
    _photo(folder / "a.png", 0)
    line = {"id": "a", "sources": ["a.png"], "instruction": "Make the cup red", **fields}
    images = InMemory()
    planned = [PlannedLine(place="r:1", root=str(folder), line=json.loads(json.dumps(line)))]
    opened = list(open_requests(planned, images, size_px=96, gates=GateSettings()))
    kept = [row for row in opened if isinstance(row, Sample)]
    return (
        list(make_candidates(kept, images, editor=editor, k=k, seed=0, gates=GateSettings())) if kept else list(opened)
    )


CUP: dict[str, Any] = {"label": "cup", "box": [20, 20, 60, 60], "operation": "recolour"}


@pytest.mark.parametrize(
    ("targets", "reason", "remedy"),
    [
        ([], "no_target", "give targets, or build with --detector"),
        ([CUP | {"box": None}], "no_target_box", "give it a box"),
        ([CUP], "missing_parameter", "needs the parameter color"),
        ([CUP | {"operation": "move"}], "no_destination", "give it a box"),
    ],
)
def test_a_request_that_cannot_be_edited_is_one_reject_with_its_remedy(
    tmp_path: Path, targets: list[dict[str, Any]], reason: str, remedy: str
) -> None:
    (row,) = _made(tmp_path, targets=targets)
    assert isinstance(row, Rejection)
    assert row.sample is not None
    assert (row.key, row.reason, remedy in row.detail) == (row.sample.request.id, reason, True)


class _Choosy:
    name, revision, synthetic = "choosy", "1", True

    def edit(self, request: object, sources: list[Any], index: int, seed: int) -> Edit:
        raise CannotEdit("not_this_one", f"candidate {index}")


def test_candidates_that_fail_each_in_its_way_are_a_reject_each(tmp_path: Path) -> None:
    rows = _made(tmp_path, 3, _Choosy)
    assert [row.key.partition("-")[2] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "target",
    [
        CUP | {"operation": "recolor", "parameters": {"color": "red"}},
        CUP | {"box": [19.6, 20.4, 60.2, 59.5], "parameters": {"color": "red"}},
    ],
)
def test_the_other_spelling_and_boxes_with_fractions_are_edited(tmp_path: Path, target: dict[str, Any]) -> None:
    for row in _made(tmp_path, 2, targets=[target]):
        assert isinstance(row, Sample), row.detail
        assert row.candidate is not None
        assert row.candidate.edits[0].operation == "recolour"
        assert row.request.targets[0].box == (20, 20, 60, 60)


def test_the_id_of_a_brought_candidate_hangs_on_no_other_file(tmp_path: Path) -> None:
    brought = [{"path": f"edit-{name}.png", "editor": "mine"} for name in "abc"]
    for number, name in enumerate("ac", 1):
        _edit(tmp_path / f"edit-{name}.png", number)
    without = _made(tmp_path, candidates=brought)
    _edit(tmp_path / "edit-b.png", 9)
    whole = _made(tmp_path, candidates=brought)
    assert [row.key for row in without if isinstance(row, Sample)] == [whole[0].key, whole[2].key]
    assert [row.reason for row in without if isinstance(row, Rejection)] == ["missing_file"]
