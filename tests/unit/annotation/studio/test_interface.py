"""The labelling interface: its answers fit the schema, its names and keys are one of a kind, its file is current."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import pytest

from annotation.client import NAME_CHARS, region_name
from annotation.studio.interface import (
    LABELS_FILE,
    SCALES,
    filled,
    guidelines,
    labels_config,
    main,
    ranking_candidates,
    ranking_config,
    region_boxes,
    region_labels,
)
from schemas.errors import BadInput
from schemas.score import LEVEL_SCORES, Issue

#: What Label Studio's own tools listen to beside an image.
TOOL_KEYS = {"h", "e", "r", "v", "b", "u", "[", "]", "shift+1", "shift+2", "shift+r", "enter", "escape", "backspace"}


def test_the_file_is_current() -> None:
    assert filled(labels_config()) == labels_config()
    assert main(["--check"]) == 0


def test_a_stale_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = tmp_path / "labels.xml"
    stale.write_text(LABELS_FILE.read_text().replace('value="missed"', 'value="left out"'))
    monkeypatch.setattr("annotation.studio.interface.LABELS_FILE", stale)
    with pytest.raises(BadInput, match="is not current"):
        main(["--check"])
    assert main([]) == 0
    assert main(["--check"]) == 0
    stale.write_text("<View/>")
    with pytest.raises(BadInput, match="does not have one Choices region_success"):
        main([])


def test_answers_are_the_levels_and_the_issues() -> None:
    controls = {tag.get("name"): tag for tag in ElementTree.fromstring(labels_config()).iter("Choices")}
    levels = [str(level) for level in range(len(LEVEL_SCORES))]
    for name in SCALES:
        assert [choice.get("alias", choice.get("value")) for choice in controls[name]] == levels
    issues = [choice.get("alias") for choice in controls["region_issues"]]
    assert issues == list(get_args(Issue))
    assert [choice.get("value") for choice in controls["cannot_judge"]] == ["cannot judge"]


def test_every_answer_has_a_key_and_no_key_two_meanings() -> None:
    root = ElementTree.fromstring(labels_config())
    choices = [choice.get("hotkey") for choice in root.iter("Choice")]
    assert None not in choices
    labels = [f"thing {number}" for number in range(11)]
    named = [label["hotkey"] for label in (*region_labels(labels), *region_boxes(labels))]
    keys = [*choices, *(label.get("hotkey") for label in root.iter("Label")), *named]
    assert len(set(keys)) == len(keys)
    assert not {key for key in keys if key != "shift+r"} & TOOL_KEYS
    assert next(tag for tag in root.iter("RectangleLabels")).get("canRotate") == "false", "shift+r turns boxes"


def test_names_are_one_line_short_and_never_the_same() -> None:
    assert region_name(0, "the left\n cup") == "1 the left cup"
    assert len(region_name(0, "x" * 200)) == len("1 ") + NAME_CHARS
    names = [label["value"] for label in region_labels(["cup", "cup", "cup"])]
    assert names == ["1 cup", "2 cup", "3 cup"]
    assert [label["value"] for label in region_boxes(["cup", "cup", "cup"])] == names


def test_guidelines_have_pictures_only_where_there_is_a_place_for_them() -> None:
    asked: list[Path] = []

    def url(path: Path) -> str:
        asked.append(path)
        return f"/pictures/{path.name}?a=1&b=2"

    html = guidelines("regions", url)
    assert all(path.is_file() for path in asked)
    assert [html.count(f'src="/pictures/{path.name}?a=1&amp;b=2"') for path in asked] == [1, 1, 1]
    assert "<img" not in guidelines("regions", lambda path: None)
    assert "Rank" in guidelines("ranking", url)


def test_a_ranking_shows_every_candidate_under_its_id() -> None:
    ElementTree.fromstring(ranking_config())
    items = ranking_candidates({"a" * 16: "/x?a=1&b='\"<script>", "b" * 16: "/y"})
    assert [item["id"] for item in items] == ["a" * 16, "b" * 16]
    assert "<script>" not in items[0]["html"]
