"""The example requests on photographs: every line is a request, and its boxes lie inside the photographs."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from PIL import Image

from runtime.checkout import CHECKOUT
from schemas.geometry import Box, box_in_image
from schemas.request import Operation, RequestLine, Target

FOLDER = CHECKOUT / "examples" / "photos"
COLORS = set("red orange yellow green cyan blue purple pink brown white black gray".split())
SHAPES = set("disc square triangle star ring cross diamond heart".split())
TEXTURES = set("stripes checker dots waves bricks noise".split())
ROLES = {"remove": "remove", "insert": "add"}
PARAMETERS = {
    "recolour": {"color"},
    "replace": {"shape", "color"},
    "insert": {"shape", "color"},
    "texture": {"texture"},
    "blur": {"sigma_px"},
    "relight": {"gain"},
    "text": {"text", "color"},
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("copy_photos", FOLDER / "copy_photos.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines() -> list[RequestLine]:
    text = (FOLDER / "requests.jsonl").read_text(encoding="utf-8")
    return [RequestLine.from_json(line, thing=f"line {n}") for n, line in enumerate(text.splitlines(), 1)]


@pytest.fixture(scope="module")
def sizes(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    folder = tmp_path_factory.mktemp("photos") / "images"
    script.copy_photos(folder)
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            found[f"images/{path.name}"] = image.size
    return found


def targets_of(lines: list[RequestLine]) -> list[tuple[RequestLine, Target]]:
    return [(line, target) for line in lines for target in line.targets]


def test_there_are_enough_requests_with_unique_ids_and_a_schema(lines: list[RequestLine]) -> None:
    assert len(lines) >= 48
    assert len({line.id for line in lines}) == len(lines)
    assert len({line.instruction for line in lines}) == len(lines)
    for text in (FOLDER / "requests.jsonl").read_text(encoding="utf-8").splitlines():
        assert json.loads(text)["schema"] == "request-line/1"


def test_half_of_the_requests_have_two_or_more_targets(lines: list[RequestLine]) -> None:
    assert 2 * sum(len(line.targets) >= 2 for line in lines) >= len(lines)
    assert any(len(line.targets) >= 3 for line in lines)
    assert all(line.targets for line in lines)


def test_every_kind_and_operation_is_used(lines: list[RequestLine]) -> None:
    used = {target.operation for _, target in targets_of(lines)}
    assert used == set(get_args(Operation)) - {"other"}
    assert sum(line.kind == "composition" for line in lines) >= 2
    assert sum(line.kind == "multi_turn" for line in lines) >= 2


def test_every_photograph_is_used_and_no_other(lines: list[RequestLine], sizes: dict[str, tuple[int, int]]) -> None:
    assert {line.sources[0] for line in lines} == set(sizes)
    assert {source for line in lines for source in line.sources} == set(sizes)


def test_boxes_lie_inside_the_photographs(lines: list[RequestLine], sizes: dict[str, tuple[int, int]]) -> None:
    for line, target in targets_of(lines):
        assert target.box is not None, line.id
        assert box_in_image(target.box, *sizes[line.sources[0]]), (line.id, target.label)
        if target.destination is not None:
            assert box_in_image(target.destination, *sizes[line.sources[0]]), (line.id, target.label)
        if target.reference is not None and target.reference.box is not None:
            assert box_in_image(target.reference.box, *sizes[line.sources[target.reference.source]]), line.id


def size_px(box: Box) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def test_a_moved_thing_keeps_its_size_and_a_resized_one_its_centre_or_base(lines: list[RequestLine]) -> None:
    for line, target in targets_of(lines):
        box, place = target.box, target.destination
        assert (place is not None) == (target.operation in {"move", "resize"}), (line.id, target.label)
        if box is None or place is None:
            continue
        if target.operation == "move":
            assert size_px(box) == size_px(place), line.id
            continue
        (width, height), (new_width, new_height) = size_px(box), size_px(place)
        assert abs(width / height - new_width / new_height) <= 0.05 * width / height, line.id
        assert abs((box[0] + box[2]) - (place[0] + place[2])) <= 1, line.id
        same_centre = abs((box[1] + box[3]) - (place[1] + place[3])) <= 1
        assert same_centre or box[3] == place[3], line.id


def test_parameters_and_roles_are_of_the_vocabulary(lines: list[RequestLine]) -> None:
    for line, target in targets_of(lines):
        expected = set() if target.reference else PARAMETERS.get(target.operation, set())
        assert set(target.parameters) == expected, (line.id, target.label)
        assert target.role == ROLES.get(target.operation, "change"), (line.id, target.label)
        assert target.parameters.get("color", "red") in COLORS, line.id
        assert target.parameters.get("shape", "disc") in SHAPES, line.id
        assert target.parameters.get("texture", "dots") in TEXTURES, line.id
        assert 0.4 <= float(target.parameters.get("gain") or 1) <= 1.9, line.id


def test_composition_targets_refer_to_the_other_photograph(lines: list[RequestLine]) -> None:
    for line in lines:
        references = [target for target in line.targets if target.reference]
        assert bool(references) == (line.kind == "composition"), line.id
        assert all(target.operation == "insert" for target in references), line.id


def test_every_turn_has_a_target_and_the_instruction_says_all_turns(lines: list[RequestLine]) -> None:
    for line in lines:
        if line.kind == "multi_turn":
            assert {target.turn for target in line.targets} == set(range(len(line.turns))), line.id
            assert all(turn in line.instruction for turn in line.turns), line.id


def test_copying_twice_writes_once_and_mends_a_damaged_file(script: ModuleType, tmp_path: Path) -> None:
    total, written = script.copy_photos(tmp_path)
    assert total == written >= 10
    assert script.copy_photos(tmp_path) == (total, 0)
    (tmp_path / "coins.png").write_bytes(b"")
    assert script.copy_photos(tmp_path) == (total, 1)
    assert len(list(tmp_path.iterdir())) == total


def test_a_missing_photograph_or_package_is_one_clear_line(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(script.PhotoMissing, match=r"^gone\.png: is not in the installed package skimage"):
        script.find_photos("skimage", "data", ("gone.png",))
    with pytest.raises(script.PhotoMissing, match=r"^no_such_package: is not installed"):
        script.find_photos("no_such_package", "data", ())
    (tmp_path / "file").write_bytes(b"")
    assert script.main([str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_script_prints_one_line(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert not printed.err
