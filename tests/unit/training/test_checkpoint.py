"""The files of a training under way: what is written comes back; what is damaged is one line and changes nothing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from schemas.errors import BadInput, NewerSchema, RegionwiseError, RunConflict
from training.checkpoint import (
    CheckpointFailed,
    StateFormat,
    check_same_config,
    put_tensors,
    read_json,
    read_state,
    read_tensors,
    reported_as_failed,
    restore_tensors,
    state_tensors,
    write_json,
    write_state,
    write_tensors,
)

FORMAT = StateFormat(
    schema="test-training",
    version=1,
    counter="step",
    digits=4,
    fields={"history": list, "finished": bool},
    mismatch="holds weights of another network",
    document_remedy="remove the folder",
    remedy="train anew",
    free_settings=frozenset({"steps"}),
)


class Config(BaseModel):
    """Settings of a training of nothing."""

    rate: float = 0.1
    steps: int = 3


class Training:
    """A linear layer, the average of its weights, and their optimiser after some steps."""

    def __init__(self, seed: int, steps: int = 2) -> None:
        torch.manual_seed(seed)
        self.layer = nn.Linear(3, 2)
        self.average = {name: torch.rand_like(tensor) for name, tensor in self.layer.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.layer.parameters())
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.layer(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()

    def groups(self) -> dict[str, Mapping[str, Tensor]]:
        return {"weight": self.layer.state_dict(), "average": self.average}

    def tensors(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in state_tensors(self.groups(), self.optimizer).items()}

    def write(self, folder: Path, step: int = 2, *, finished: bool = False) -> None:
        fields = {"step": step, "history": [], "finished": finished}
        write_state(folder, FORMAT, Config().model_dump(mode="json"), fields, None if finished else self.tensors())

    def restore(self, folder: Path) -> None:
        state = read_state(folder, FORMAT)
        assert state is not None
        restore_tensors(folder, FORMAT, state, self.groups(), self.optimizer)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_was_written_comes_back_and_older_tensors_go(tmp_path: Path) -> None:
    written, read = Training(1), Training(2)
    assert read_state(tmp_path, FORMAT) is None
    written.write(tmp_path, step=1)
    written.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-0002.safetensors", "state.json"]
    assert not same(read.tensors(), written.tensors())
    read.restore(tmp_path)
    assert same(read.tensors(), written.tensors())


def test_before_the_first_step_an_optimiser_has_no_moments(tmp_path: Path) -> None:
    written, read = Training(1, steps=0), Training(2, steps=0)
    written.write(tmp_path, step=0)
    read.restore(tmp_path)
    assert same(read.tensors(), written.tensors())
    with_moments = Training(1)
    with_moments.write(tmp_path, step=0)
    with pytest.raises(
        BadInput, match=r"lacks moments of the optimiser or has others: moment/0/exp_avg is .*, expected None"
    ):
        read.restore(tmp_path)


def test_a_finished_training_keeps_no_tensors(tmp_path: Path) -> None:
    Training(1).write(tmp_path)
    Training(1).write(tmp_path, finished=True)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    state = read_state(tmp_path, FORMAT)
    assert state is not None
    assert (state["tensors"], state["finished"]) == (None, True)


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("weight/bias"), r"another network: weight/bias is None, expected \(2,\)"),
        (lambda t: t.pop("average/bias"), r"another network: average/bias is None, expected \(2,\)"),
        (lambda t: t.update({"weight/bias": torch.zeros(3)}), r"weight/bias is \(3,\), expected \(2,\)"),
        (lambda t: t.update({"average/bias": torch.zeros(3)}), r"average/bias is \(3,\), expected \(2,\)"),
        (lambda t: t.update({"other/bias": torch.zeros(3)}), r"another network: other/bias is \(3,\), expected None"),
        (lambda t: t["weight/bias"].fill_(torch.nan), "holds numbers in weight/bias that are not finite"),
        (lambda t: t["average/weight"].fill_(torch.inf), "holds numbers in average/weight that are not finite"),
        (lambda t: t.pop("moment/1/step"), r"lacks moments .*: moment/1/step is None, expected \(\)"),
        (lambda t: t.pop("moment/0/exp_avg"), r"moment/0/exp_avg is None, expected \(2, 3\)"),
        (lambda t: t.update({"moment/0/exp_avg_sq": torch.zeros(3, 2)}), r"is \(3, 2\), expected \(2, 3\)"),
        (lambda t: t.update({"moment/0/other": torch.zeros(2)}), r"moment/0/other is \(2,\), expected None"),
        (lambda t: t.update({"moment/2/step": torch.zeros(())}), r"moment/2/step is \(\), expected None"),
        (lambda t: t.update({"moment/x": torch.zeros(())}), r"moment/x is \(\), expected None"),
        (lambda t: t["moment/1/exp_avg"].fill_(torch.nan), "holds numbers in moment/1/exp_avg that are not finite"),
        (lambda t: t["moment/0/step"].fill_(torch.inf), "holds numbers in moment/0/step that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_put_back(tmp_path: Path, change: Change, fault: str) -> None:
    written, read = Training(1), Training(2)
    written.write(tmp_path)
    tensors = written.tensors()
    change(tensors)
    write_tensors(tmp_path / "state-0002.safetensors", tensors)
    before = read.tensors()
    with pytest.raises(BadInput, match=rf"state-0002\.safetensors: .*{fault}.*; train anew$"):
        read.restore(tmp_path)
    assert same(read.tensors(), before)


@pytest.mark.parametrize("content", [None, b"damaged", b"{}" * 9])
def test_tensors_that_cannot_be_read_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state-0002.safetensors"
    Training(1).write(tmp_path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        BadInput, match=r"state-0002\.safetensors: (does not exist|is no safetensors file: .*); train anew$"
    ):
        Training(2).restore(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": "other-training/1"}, "says schema 'other-training', expected test-training/1"),
        ({"schema": "test-training"}, "says schema 'test-training', expected"),
        ({"config": None}, "field config is NoneType, expected dict"),
        ({"step": "2"}, "field step is str, expected int"),
        ({"step": True}, "field step is bool, expected int"),
        ({"step": -2}, "field step is -2"),
        ({"history": {}}, "field history is dict, expected list"),
        ({"finished": 0}, "field finished is int, expected bool"),
        ({"tensors": None}, "names no tensors of step 2: 'None'"),
        ({"tensors": 3}, "names no tensors of step 2"),
        ({"tensors": "state-0003.safetensors"}, r"names no tensors of step 2: 'state-0003\.safetensors'"),
        ({"tensors": "../state-0002.safetensors"}, r"names no tensors of step 2: '\.\./state"),
    ],
)
def test_a_damaged_document_is_one_line(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    Training(1).write(tmp_path)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(BadInput, match=rf"state\.json: .*{fault}.*; remove the folder$"):
        read_state(tmp_path, FORMAT)


@pytest.mark.parametrize("field", ["config", "step", "history", "finished", "tensors"])
def test_a_document_that_lacks_a_field_is_one_line(tmp_path: Path, field: str) -> None:
    Training(1).write(tmp_path)
    path = tmp_path / "state.json"
    document = json.loads(path.read_bytes())
    del document[field]
    path.write_text(json.dumps(document))
    with pytest.raises(
        BadInput, match=rf"state\.json: (is damaged: field {field} is missing|names no tensors of step)"
    ):
        read_state(tmp_path, FORMAT)


def test_a_later_schema_says_so(tmp_path: Path) -> None:
    Training(1).write(tmp_path)
    with pytest.raises(NewerSchema, match=r"test-training/1; this version reads up to test-training/0"):
        read_state(tmp_path, replace(FORMAT, version=0))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_document_that_is_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.json: cannot be read: .*; mend it$"):
        read_json(tmp_path / "a.json", "mend it")


def test_a_setting_that_differs_is_named_whether_it_is_new_gone_or_changed() -> None:
    place, before = Path("out"), Config().model_dump()
    check_same_config(place, before | {"steps": 9}, Config().model_dump(mode="json"), FORMAT)
    for other, fault in (
        (before | {"rate": 0.2}, r"out: was trained with rate = 0\.2, now it is 0\.1; give another folder"),
        (before | {"gone": 1}, "was trained with gone = 1, now it is None"),
        ({"steps": 3}, r"was trained with rate = None, now it is 0\.1"),
    ):
        with pytest.raises(RunConflict, match=fault):
            check_same_config(place, other, Config().model_dump(mode="json"), FORMAT)


def test_weights_in_half_precision_are_put_back_whole_or_not_at_all() -> None:
    layer, fault = nn.Linear(3, 2), "is of another network"
    halves = {name: torch.ones_like(tensor).half() for name, tensor in layer.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    for name, tensor in (
        ("weight", torch.full((2, 3), torch.nan)),
        ("more", torch.zeros(1)),
        ("weight", torch.ones(3)),
    ):
        with pytest.raises(BadInput, match=rf"^file: (is of another network: {name}|holds numbers in {name})"):
            put_tensors(Path("file"), layer.state_dict(), halves | {name: tensor}, fault, "train anew")
        assert same(layer.state_dict(), before)
    put_tensors(Path("file"), layer.state_dict(), halves, fault, "train anew")
    assert layer.weight.dtype == torch.float32
    assert bool((layer.weight == 1).all())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "in its way").mkdir(parents=True)
    for write in (lambda: write_json(tmp_path / "a", {}), lambda: write_tensors(tmp_path / "a", {"x": torch.zeros(1)})):
        with pytest.raises(RegionwiseError, match=r"a: is a folder, where a file is to be written; move it away"):
            write()
    with pytest.raises(CheckpointFailed, match=r"a: cannot be written: .*; make it writable and start again"):
        _open(tmp_path / "a")


def _open(path: Path) -> None:
    with reported_as_failed(path):
        path.open("wb")


def test_metadata_and_keys_stand_as_they_are_asked_for(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": torch.arange(3)}, metadata={"name": "a"})
    assert b'"__metadata__":{"name":"a"}' in (tmp_path / "a.safetensors").read_bytes()
    assert read_tensors(tmp_path / "a.safetensors", "")["x"].tolist() == [0, 1, 2]
    write_json(tmp_path / "sorted.json", {"b": 1, "a": 2})
    write_json(tmp_path / "given.json", {"b": 1, "a": 2}, sort_keys=False)
    assert (tmp_path / "sorted.json").read_text() == '{\n "a": 2,\n "b": 1\n}\n'
    assert (tmp_path / "given.json").read_text() == '{\n "b": 1,\n "a": 2\n}\n'
