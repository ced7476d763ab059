"""A trained policy as an editor: the same pixels for the same arguments, in the source's size. Weights are random."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.editors.protocol import CannotEdit, Edit
from runtime.images import ImageU8
from schemas.errors import BadInput, NewerSchema
from schemas.request import EditRequest
from tests.cases.tiny_policy import random_policy, random_tiny
from training.checkpoint import read_tensors, write_tensors
from training.policy.edit_cases import plain_case
from training.policy.editor import PolicyEditor, make_editor, put_back
from training.policy.token_masks import flux2_grid


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def folder(base: Path) -> Path:
    return random_policy(base.parent / "policy", base)


@pytest.fixture(scope="module")
def editor(folder: Path) -> PolicyEditor:
    return make_editor(str(folder), "cpu")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the policy's folder, to damage."""
    return shutil.copytree(folder, tmp_path / "policy")


def asked(size: tuple[int, int] = (64, 64), **changes: object) -> tuple[EditRequest, list[ImageU8]]:
    """A request and its source, noise of (height, width)."""
    request = plain_case(3, 0, 64).request.model_copy(update=changes)
    return request, [np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)]


def edit(editor: PolicyEditor, index: int = 0, seed: int = 5, size: tuple[int, int] = (64, 64)) -> Edit:
    return editor.edit(*asked(size), index, seed)


def test_the_same_arguments_give_the_same_pixels_and_others_do_not(folder: Path, editor: PolicyEditor) -> None:
    made = edit(editor)
    other_request = editor.edit(*asked(id="0123456789abcdef"), 0, 5)
    edit(editor, index=1)
    with_two_threads = _with_threads(2, lambda: edit(make_editor(str(folder), "cpu")))
    np.testing.assert_array_equal(made.image, with_two_threads.image)
    np.testing.assert_array_equal(made.image, edit(editor).image)
    assert made.seed == 5
    assert (made.edits, made.defects) == ((), ())
    for other in (edit(editor, index=1), edit(editor, seed=6), other_request):
        assert (made.image != other.image).any()


def _with_threads(number: int, work):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        return work()
    finally:
        assert torch.get_num_threads() == number
        torch.set_num_threads(before)


def test_what_is_recorded_names_base_and_adapter(
    base: Path, folder: Path, editor: PolicyEditor, tmp_path: Path
) -> None:
    assert (editor.name, editor.synthetic) == ("policy:tiny", True)
    assert edit(editor).parameters == {"sampler": "ode", "steps": 2, "guidance": 1.0, "updates": 2}
    again = make_editor(str(shutil.copytree(folder, tmp_path / "moved")), "cpu")
    other = make_editor(str(random_policy(tmp_path / "other", base, seed=1)), "cpu")
    assert editor.revision == again.revision != other.revision
    assert editor.revision.split("-")[0] == other.revision.split("-")[0]


@pytest.mark.parametrize("size", [(64, 64), (70, 97)])
def test_a_candidate_has_the_size_of_its_source_and_its_border_stays(
    editor: PolicyEditor, size: tuple[int, int]
) -> None:
    image = edit(editor, size=size).image
    source = asked(size)[1][0]
    height, width = (side // 16 * 16 for side in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    inside = np.zeros(size, dtype=bool)
    inside[top : top + height, left : left + width] = True
    assert image.shape == source.shape
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[~inside], source[~inside])
    assert (image[inside] != source[inside]).mean() > 0.5


def test_what_a_policy_made_lies_where_it_was_cut_out() -> None:
    grid = flux2_grid(97, 70, token_px=16)
    source, shown = (np.full((side, across, 3), level, np.uint8) for side, across, level in ((70, 97, 9), (64, 96, 0)))
    shown[0, 0] = shown[-1, -1] = 255
    image = put_back(source, shown, grid)
    assert [tuple(map(int, place)) for place in np.argwhere(image[..., 0] == 255)] == [(3, 0), (66, 95)]
    assert int((image[..., 0] == 9).sum()) == 70 * 97 - 64 * 96


def test_a_source_that_was_scaled_down_comes_back_in_its_size_and_place() -> None:
    grid = flux2_grid(300, 200, token_px=16, max_area=120 * 80)
    assert (grid.resized_width_px, grid.width_px, grid.left_px, grid.top_px) == (120, 112, 4, 0)
    source = np.full((200, 300, 3), 40, dtype=np.uint8)
    shown = np.full((grid.height_px, grid.width_px, 3), 200, dtype=np.uint8)
    image = put_back(source, shown, grid)
    assert image.shape == source.shape
    assert {*np.unique(image[:, :10]), *np.unique(image[:, 290:])} == {40}
    np.testing.assert_array_equal(image[:, 15:285], 200)
    assert abs(int((image[100, :, 0] > 120).sum()) - 280) <= 1


def test_what_it_cannot_edit_is_a_reject_with_its_reason(editor: PolicyEditor) -> None:
    request, sources = asked()
    turns = request.model_copy(update={"kind": "multi_turn", "turns": ("a", "b")})
    cases = {
        "several_sources": (request, sources * 2),
        "several_turns": (turns, sources),
        "refused_size": asked((63, 200)),
        "long_instruction": asked(instruction="turn it into something else " * 40),
    }
    for reason, (wanted, shown) in cases.items():
        with pytest.raises(CannotEdit) as error:
            editor.edit(wanted, shown, 0, 1)
        assert error.value.reason == reason
    with pytest.raises(CannotEdit, match="one source, not 0"):
        editor.edit(request, [], 0, 1)


def test_files_that_are_no_policy_are_one_clear_line(copied: Path, tmp_path: Path) -> None:
    document, adapter = copied / "policy.json", copied / "adapter.safetensors"
    whole, weights = json.loads(document.read_bytes()), adapter.read_bytes()

    def fault() -> str:
        with pytest.raises(BadInput) as error:
            make_editor(str(copied), "cpu")
        assert "\n" not in str(error.value)
        return str(error.value)

    adapter.write_bytes(weights[:-100])
    assert "adapter.safetensors: is no safetensors file" in fault()
    adapter.unlink()
    assert "adapter.safetensors: does not exist" in fault()
    tensors = read_tensors(_written(adapter, weights), "train anew")
    first = min(tensors)
    write_tensors(adapter, {**tensors, first: torch.zeros(3, 5)})
    assert f"is an adapter of another model: {first} is (3, 5)" in fault()
    write_tensors(adapter, {name: tensor * torch.nan for name, tensor in tensors.items()})
    assert "not finite" in fault()
    _written(adapter, weights)
    document.write_text("{")
    assert "policy.json: cannot be read" in fault()
    document.write_text(json.dumps(whole | {"config": {"policy": 3}}))
    assert "policy.json: " in fault()
    document.write_text(json.dumps(whole | {"revision": "0" * 16}))
    assert "was trained on revision 0000000000000000 of tiny:" in fault()
    missing = f"tiny:{tmp_path / 'gone'}"
    document.write_text(json.dumps(whole | {"config": whole["config"] | {"policy": missing}}))
    assert "gone: holds no model_index.json" in fault()
    document.write_text(json.dumps(whole | {"schema": "policy/9"}))
    with pytest.raises(NewerSchema, match="has schema policy/9"):
        make_editor(str(copied), "cpu")


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_place_is_asked_for_and_a_device_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(BadInput, match="does not say where it is; write policy:RUN/policy/NAME"):
        make_editor(None, "cpu")
    with pytest.raises(BadInput, match="cannot use device 'nosuch'"):
        make_editor(str(folder), "nosuch")
