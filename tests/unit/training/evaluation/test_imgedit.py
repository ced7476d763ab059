"""ImgEdit-Bench basic: its metadata and layout, its formula by hand, the official reading of a judge's text."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.editors.protocol import CannotEdit
from runtime.images import ImageU8, encode_image
from schemas.edit_benchmarks import ImgeditResult
from schemas.errors import BadInput
from tests.cases.reward_cases import Constant
from training.evaluation.edit_files import saved_edits
from training.evaluation.edit_judge import Answer, EditedItem, RewardJudge, imgedit_parts
from training.evaluation.imgedit import (
    ImgeditItem,
    OfficialAnswers,
    evaluate_imgedit,
    read_imgedit,
    scores_in,
    write_edits,
)

META = {
    "1082": {"id": "animal/one.png", "prompt": "Smooth the shell.", "edit_type": "alter"},
    "1068": {"id": "animal/one.png", "prompt": "Darken the fur.", "edit_type": "alter"},
    "673": {"id": "daily object/two.png", "prompt": "As a woodcut.", "edit_type": "style"},
}


@pytest.fixture
def items(tmp_path: Path) -> list[ImgeditItem]:
    for number, name in enumerate(("animal/one.png", "daily object/two.png")):
        path = tmp_path / "originals" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_image(np.full((6, 9, 3), 40 * number, dtype=np.uint8), "png"))
    (tmp_path / "basic_edit.json").write_text(json.dumps(META))
    return read_imgedit(tmp_path / "basic_edit.json", tmp_path / "originals")


class Told:
    name, synthetic = "told", False

    def __init__(self, scores: dict[str, object]) -> None:
        self._scores = scores

    def judge(self, items: Sequence[EditedItem]) -> list[Answer]:
        return [{"scores": self._scores.get(item.key)} for item in items]


def same(item: ImgeditItem) -> ImageU8:
    return item.source()


def test_metadata_is_read(items: list[ImgeditItem]) -> None:
    assert [(item.key, item.edit_type) for item in items] == [("1082", "alter"), ("1068", "alter"), ("673", "style")]
    assert items[2].source().shape == (6, 9, 3)


def test_the_formula_by_hand(items: list[ImgeditItem]) -> None:
    """Means 4, 10/3 and 2; the script rounds 10/3 to 3.33 and the type's mean 3.665 to 3.67 (3.66 in floats)."""
    told = Told({"1082": [5, 4, 3], "1068": [2, 4, 4], "673": [1, 2, 3]})
    found = evaluate_imgedit(items, same, told, policy="p", bootstrap_samples=100)
    assert [answer.mean for answer in found.answers] == pytest.approx([4, 10 / 3, 2])
    assert found.types["alter"].mean.value == pytest.approx((4 + 10 / 3) / 2)
    assert found.types["alter"].official == round((4 + 3.33) / 2, 2)
    assert found.types["style"].official == 2.0
    assert found.overall.value == pytest.approx(((4 + 10 / 3) / 2 + 2) / 2)
    assert found.per_item.value == pytest.approx((4 + 10 / 3 + 2) / 3)
    assert found.over_first == 2
    # Both `alter` items are of one source: their mean is the same in every resample that has them.
    assert found.types["alter"].mean.low == found.types["alter"].mean.high == pytest.approx((4 + 10 / 3) / 2)
    assert (found.per_item.low, found.per_item.high) == (pytest.approx(2), pytest.approx((4 + 10 / 3) / 2))
    assert ImgeditResult.from_json(found.model_dump_json(), thing="r") == found


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (None, "absent"),
        ([5, 5], "malformed"),
        ([5, 5, 5, 5], "malformed"),
        (["5", 5, 5], "malformed"),
        ([5, 5, 0], "out_of_range"),
        ([5, 6, 5], "out_of_range"),
    ],
)
def test_bad_answers_are_missing_and_counted(items: list[ImgeditItem], scores: object, reason: str) -> None:
    told = Told({"1082": scores, "1068": [2, 2, 2], "673": [4, 4, 4]})
    found = evaluate_imgedit(items, same, told, policy="p", bootstrap_samples=5)
    assert found.report.missing == {reason: 1}
    assert found.report.coverage == pytest.approx(2 / 3)
    assert (found.types["alter"].n, found.types["alter"].n_items) == (1, 2)
    assert found.types["alter"].mean.value == 2.0
    assert found.overall.value == 3.0


def test_a_type_without_a_score_makes_the_whole_missing(items: list[ImgeditItem]) -> None:
    found = evaluate_imgedit(items, same, Told({"673": [3, 3, 3]}), policy="p", bootstrap_samples=5)
    assert (found.overall.value, found.per_item.value, found.types["alter"].official) == (None, 3.0, None)


def test_edits_lie_where_the_script_looks(items: list[ImgeditItem], tmp_path: Path) -> None:
    def edit(source: ImageU8, instruction: str, seed: int) -> ImageU8:
        if "fur" in instruction:
            raise CannotEdit("unknown_operation", "no")
        return np.full((30, 30, 3), seed % 256, dtype=np.uint8)

    out = tmp_path / "out"
    assert write_edits(out, items, edit) == 2
    assert sorted(path.name for path in out.iterdir()) == ["1082.png", "673.png"]
    assert write_edits(out, items, edit) == 0
    judge = RewardJudge(Constant(25.0), imgedit_parts, synthetic=True)
    found = evaluate_imgedit(items, saved_edits(out), judge, policy="p", bootstrap_samples=5)
    assert (found.report.not_edited, found.per_item.value) == (1, 5.0)
    (out / "673.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"673\.png: is no image"):
        evaluate_imgedit(items, saved_edits(out), judge, policy="p")


TEXT = "Brief reasoning: no change: none.\nPrompt Compliance: 1\nVisual Seamlessness: 4\nPhysical & Detail Fidelity: 4"


def test_the_official_reading_of_a_text(items: list[ImgeditItem], tmp_path: Path) -> None:
    assert scores_in(TEXT) == {"scores": [1, 4, 4]}
    assert scores_in("Score: 5/5\nOther: five") == {}
    assert scores_in({"error": "no answer"}) == {}
    assert scores_in("A: \u00b2") == {}
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"1082": TEXT, "1068": "A: 3\nB: 3", "673": {"error": "x"}}))
    found = evaluate_imgedit(items, same, OfficialAnswers(path), policy="p", bootstrap_samples=5)
    assert found.answers[0].scores == (1.0, 4.0, 4.0)
    assert found.report.missing == {"absent": 1, "malformed": 1}
    assert found.over_first == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not JSON"),
        ("[]", "not an object"),
        ("{}", "lists no item"),
        ('{"../x": {}}', "no file name"),
        ('{"a": []}', "no id, prompt and edit_type"),
        ('{"a": {"id": 3, "prompt": "x", "edit_type": "y"}}', "no id, prompt and edit_type"),
        ('{"a": {"id": "x", "prompt": " ", "edit_type": "y"}}', "has no prompt"),
        ('{"a": {"id": "x", "prompt": "x", "edit_type": "../y"}}', "the edit type"),
    ],
)
def test_hostile_metadata_is_one_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "basic_edit.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=fault) as caught:
        read_imgedit(path, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "absent.png", "http://x/y.png"])
def test_originals_stay_in_their_folder(image: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode_image(np.zeros((4, 4, 3), dtype=np.uint8), "png"))
    (tmp_path / "originals").mkdir()
    item = ImgeditItem("a", "style", "x", image, tmp_path / "originals")
    with pytest.raises(BadInput, match="item a: has an original that cannot be used"):
        item.source()


def test_no_item_is_an_error() -> None:
    with pytest.raises(BadInput, match="has no items"):
        evaluate_imgedit([], same, Told({}), policy="p")
