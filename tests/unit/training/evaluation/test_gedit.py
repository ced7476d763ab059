"""GEdit-Bench: its table and layout, its formula worked out by hand, and answers that are missing or malformed."""

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.editors.protocol import CannotEdit
from runtime.images import ImageU8, decode_image, encode_image
from schemas.edit_benchmarks import GeditResult
from schemas.errors import BadInput
from tests.cases.judge_server import JudgeServer
from tests.cases.reward_cases import Constant
from training.evaluation.edit_files import saved_edits
from training.evaluation.edit_judge import (
    Answer,
    EditedItem,
    RewardJudge,
    ScoreFile,
    entropy_bits,
    gedit_parts,
    imgedit_parts,
    read_part,
)
from training.evaluation.gedit import evaluate_gedit, write_edits
from training.evaluation.gedit_items import TASKS, GeditItem, read_gedit
from training.judge.endpoint import make_judge
from training.reward_protocol import Predicted, Prediction


def image(level: int, side: int = 8) -> ImageU8:
    return np.full((side, side, 3), level, dtype=np.uint8)


def row(task: str, key: str, language: str = "en", level: int = 10, **fields: Any) -> dict[str, Any]:
    cell = {"bytes": encode_image(image(level), "png"), "path": None}
    return {
        "task_type": task,
        "key": key,
        "instruction": f"do {key}",
        "instruction_language": language,
        "input_image": cell,
        "input_image_raw": {"bytes": encode_image(image(level, 16), "png"), "path": None},
        "Intersection_exist": True,
        **fields,
    }


def write_table(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def all_tasks(folder: Path) -> Path:
    """One item a task, the first task with two of one source and one of another."""
    rows = [row(task, f"k{number}", level=number) for number, task in enumerate(TASKS)]
    rows += [row(TASKS[0], "same", level=0), row(TASKS[0], "other", level=99, Intersection_exist=False)]
    return write_table(folder, [*rows, row(TASKS[0], "k0", "cn")])


class Told:
    """A judge that a test tells what to answer; `otherwise` for keys that it was not told."""

    name, synthetic = "told", False

    def __init__(self, answers: dict[str, Answer], otherwise: Answer) -> None:
        self._answers, self._otherwise, self.asked = answers, otherwise, list[EditedItem]()

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        self.asked += items
        return [self._answers.get(item.key, self._otherwise) for item in items]


GOOD = {"semantics": [8, 6], "quality": [9, 10]}


def raw(item: GeditItem) -> ImageU8:
    return item.raw


def test_the_table_is_read_by_language(tmp_path: Path) -> None:
    folder = all_tasks(tmp_path)
    items = list(read_gedit(folder))
    assert len(items) == 13
    assert {item.task for item in items} == set(TASKS)
    assert (items[0].source.shape, items[0].raw.shape) == ((8, 8, 3), (16, 16, 3))
    assert [item.intersection for item in items].count(False) == 1
    assert [item.key for item in read_gedit(folder, "cn")] == ["k0"]


def test_edits_lie_where_the_script_looks(tmp_path: Path) -> None:
    folder, out = all_tasks(tmp_path / "bench"), tmp_path / "my-policy"
    seen: list[tuple[str, int]] = []

    def edit(source: ImageU8, instruction: str, seed: int) -> ImageU8:
        if instruction == "do k3":
            raise CannotEdit("unknown_operation", "no")
        seen.append((instruction, seed))
        return source[::-1]

    assert write_edits(out, read_gedit(folder), edit) == 12
    place = out / "fullset" / "background_change" / "en"
    assert sorted(path.name for path in place.iterdir()) == sorted(
        name for key in ("k0", "same", "other") for name in (f"{key}.png", f"{key}_SRCIMG.png")
    )
    assert decode_image((place / "k0_SRCIMG.png").read_bytes()).shape == (8, 8, 3)
    first = dict(seen)
    assert len(set(first.values())) == 12
    (place / "k0.png").unlink()
    seen.clear()
    assert write_edits(out, read_gedit(folder), edit) == 1
    assert seen == [("do k0", first["do k0"])]
    result = evaluate_gedit(read_gedit(folder), saved_edits(out), Told({}, GOOD), policy="p", bootstrap_samples=5)
    assert result.report.not_edited == 1
    assert result.tasks_missing == (TASKS[3],)
    assert result.overall.overall.value is None


def test_the_formula_by_hand(tmp_path: Path) -> None:
    """SC = min, PQ = min, O = sqrt(SC PQ); mean by task, then over 11 tasks."""
    judge = Told(
        {"same": {"semantics": [2, 4], "quality": [8, 9]}, "other": {"semantics": [0, 9], "quality": [5, 5]}}, GOOD
    )
    found = evaluate_gedit(read_gedit(all_tasks(tmp_path)), raw, judge, policy="p", bootstrap_samples=200)
    usual = sqrt(6 * 9)
    first = (usual + sqrt(2 * 8) + 0) / 3
    assert found.tasks[TASKS[0]].overall.value == pytest.approx(first)
    assert found.tasks[TASKS[0]].semantics.value == pytest.approx((6 + 2 + 0) / 3)
    assert found.tasks[TASKS[0]].quality.value == pytest.approx((9 + 8 + 5) / 3)
    assert found.overall.overall.value == pytest.approx((first + 10 * usual) / 11)
    assert found.intersection.overall.value == pytest.approx(((usual + 4) / 2 + 10 * usual) / 11)
    assert found.overall.n == found.overall.n_items == 13
    # Two of the three items of the first task share a source: they are drawn together.
    assert found.tasks[TASKS[0]].overall.low == pytest.approx(0)
    assert found.tasks[TASKS[0]].overall.high == pytest.approx((usual + 4) / 2)
    assert found.report.coverage == 1.0
    assert GeditResult.from_json(found.model_dump_json(), thing="r") == found


def test_the_judge_sees_edits_in_their_sources_size(tmp_path: Path) -> None:
    judge = Told({}, GOOD)
    evaluate_gedit(read_gedit(all_tasks(tmp_path)), raw, judge, policy="p", bootstrap_samples=5)
    assert {item.edited.shape for item in judge.asked} == {(8, 8, 3)}


BAD = {
    "absent": ({"quality": [9, 9]}, "absent"),
    "null": ({"semantics": None, "quality": [9, 9]}, "absent"),
    "one score": ({"semantics": [9], "quality": [9, 9]}, "malformed"),
    "text": ({"semantics": "9, 9", "quality": [9, 9]}, "malformed"),
    "words": ({"semantics": [9, "ten"], "quality": [9, 9]}, "malformed"),
    "true": ({"semantics": [9, True], "quality": [9, 9]}, "malformed"),
    "nan": ({"semantics": [9, float("nan")], "quality": [9, 9]}, "malformed"),
    "over": ({"semantics": [9, 9], "quality": [9, 25]}, "out_of_range"),
    "under": ({"semantics": [9, 9], "quality": [-1, 9]}, "out_of_range"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers_are_missing_and_counted(name: str, tmp_path: Path) -> None:
    answer, reason = BAD[name]
    folder = all_tasks(tmp_path)
    found = evaluate_gedit(read_gedit(folder), raw, Told({"same": answer}, GOOD), policy="p", bootstrap_samples=5)
    assert found.report.missing == {reason: 1}
    assert found.report.coverage == pytest.approx(12 / 13)
    assert found.tasks[TASKS[0]].n == 2
    assert found.tasks[TASKS[0]].overall.value == pytest.approx(sqrt(54))
    one = next(one for one in found.answers if one.key == "same")
    assert (one.semantics, one.quality, one.overall) == (None, None, None)


def test_a_task_without_a_score_makes_the_whole_missing(tmp_path: Path) -> None:
    found = evaluate_gedit(
        read_gedit(all_tasks(tmp_path)), raw, Told({"k5": {}}, GOOD), policy="p", bootstrap_samples=5
    )
    assert found.tasks_missing == (TASKS[5],)
    assert (found.overall.overall.value, found.overall.overall.low, found.overall.n) == (None, None, 12)


def test_an_answer_too_many_is_an_error(tmp_path: Path) -> None:
    class Talkative(Told):
        def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
            return [*super().judge(items), GOOD]

    with pytest.raises(ValueError, match="14 answers to 13"):
        evaluate_gedit(read_gedit(all_tasks(tmp_path)), raw, Talkative({}, GOOD), policy="p")


HOSTILE = {
    "task": ({"task_type": "../x"}, "has the task"),
    "key": ({"key": "../../x"}, "has the key"),
    "empty": ({"instruction": " "}, "has no instruction"),
    "no bytes": ({"input_image": {"bytes": None, "path": "/etc/passwd"}}, "input_image: has no bytes"),
    "no image": ({"input_image_raw": {"bytes": b"x", "path": None}}, "input_image_raw: is no image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rows_are_one_line(name: str, tmp_path: Path) -> None:
    fields, fault = HOSTILE[name]
    folder = write_table(tmp_path, [row(TASKS[0], "a"), row(TASKS[0], "b") | fields])
    with pytest.raises(BadInput, match=fault) as caught:
        list(read_gedit(folder))
    assert "row 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hostile_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no Parquet file"):
        list(read_gedit(tmp_path))
    with pytest.raises(BadInput, match="is not in GEdit-Bench"):
        list(read_gedit(tmp_path, "fr"))
    with pytest.raises(BadInput, match="no GEdit item in cn"):
        list(read_gedit(write_table(tmp_path / "a", [row(TASKS[0], "a")]), "cn"))
    with pytest.raises(BadInput, match="the key a again"):
        list(read_gedit(write_table(tmp_path / "b", [row(TASKS[0], "a"), row(TASKS[1], "a")])))
    with pytest.raises(BadInput, match="has no column input_image_raw"):
        list(read_gedit(write_table(tmp_path / "c", [{k: v for k, v in row(TASKS[0], "a").items() if "raw" not in k}])))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInput, match=r"x\.parquet: is not Parquet"):
        list(read_gedit(tmp_path / "d"))


def test_a_broken_edit_is_named(tmp_path: Path) -> None:
    item = next(iter(read_gedit(all_tasks(tmp_path / "bench"))))
    path = tmp_path / "out" / item.place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"k0\.png: is no image"):
        saved_edits(tmp_path / "out")(item)


def test_scores_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(json.dumps({"key": f"k{n}", **GOOD}) for n in range(11)) + "\n\n")
    found = evaluate_gedit(read_gedit(all_tasks(tmp_path)), raw, ScoreFile(path), policy="p", bootstrap_samples=5)
    assert found.overall.overall.value == pytest.approx(sqrt(54))
    assert found.report.missing == {"absent": 2}
    for text, fault in (
        ("{", "line 1"),
        ("[]", "no JSON object"),
        ('{"key": "a"}\n{"key": "a"}', "line 2: has the key a"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=fault):
            ScoreFile(path)
    with pytest.raises(BadInput, match="cannot be read"):
        ScoreFile(tmp_path / "absent.jsonl")


def test_a_reward_as_the_judge() -> None:
    """0..25 is divided by 2.5; one missing score makes its part missing."""
    scores = {"background": 0.0, "success": 20.0, "overedit": 25.0, "naturalness": 10.0, "artifacts": 5.0}
    found = Prediction(regions={}, **{name: Predicted(score) for name, score in scores.items()})
    assert gedit_parts(found) == {"semantics": [8.0, 10.0], "quality": [4.0, 2.0]}
    assert imgedit_parts(found) == {"scores": pytest.approx([1 + 3.2, 1 + 0.8, 5.0])}
    missing = Prediction(regions={}, **{name: Predicted(None if name == "success" else 5.0) for name in scores})
    assert gedit_parts(missing) == {"semantics": None, "quality": [2.0, 2.0]}
    assert imgedit_parts(missing) == {"scores": None}
    outside = Prediction(regions={}, **{name: Predicted(99.0) for name in scores})
    assert gedit_parts(outside) == {"semantics": None, "quality": None}


def test_a_constant_reward_has_no_entropy(tmp_path: Path) -> None:
    judge = RewardJudge(Constant(20.0), gedit_parts, synthetic=True)
    found = evaluate_gedit(read_gedit(all_tasks(tmp_path)), raw, judge, policy="p", bootstrap_samples=5)
    assert found.overall.overall.value == pytest.approx(8.0)
    assert (found.report.entropy_bits, found.report.synthetic) == (0.0, True)
    assert entropy_bits([1, 2, 3, 4]) == pytest.approx(2.0)
    assert entropy_bits([]) is None


def test_a_judge_behind_an_endpoint(tmp_path: Path) -> None:
    """The stand-in answers success 16, overedit 17, naturalness 18, artifacts 19: SC 6.4, PQ 7.2."""
    folder = write_table(tmp_path, [row(TASKS[0], "a")])
    with JudgeServer() as server:
        judge = RewardJudge(make_judge(server.url), gedit_parts, synthetic=False)
        found = evaluate_gedit(read_gedit(folder), raw, judge, policy="p", bootstrap_samples=5)
        assert len(server.requests) == 2
    one = found.answers[0]
    assert (one.semantics, one.quality) == (pytest.approx(6.4), pytest.approx(7.2))
    assert found.tasks_missing == TASKS[1:]


def test_a_part_must_be_whole() -> None:
    assert read_part({"a": [1, 2]}, "a", 2, 0, 10) == (1.0, 2.0)
    assert read_part({"a": (0, 10)}, "a", 2, 0, 10) == (0.0, 10.0)
    assert read_part({"a": [1, 2, 3]}, "a", 2, 0, 10) == "malformed"
