"""Which policy it is, by all bytes of its files; nothing of them is loaded, so they hold anything here."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.editors.plugins import editor_source
from pipeline.models.revisions import changes, identify
from schemas.errors import BadInput, RunConflict
from tests.cases.editor_plugin import offer
from training.policy.checkpoint import check_same_base
from training.policy.config import PolicyConfig
from training.policy.files import earlier_fingerprint, fingerprint, policy_files

MIB = 1 << 20
PARTS = ("text_encoder/model.safetensors", "tokenizer/merges.txt", "transformer/config.json")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder as FLUX.2 has them, with pictures and whole checkpoints that nobody reads."""
    for name in (*PARTS, "model_index.json", "sheet.png", "all-in-one.safetensors"):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).write_text(name)
    (tmp_path / "base" / PARTS[0]).write_bytes(b"\x3f" * 2 * MIB)
    return tmp_path / "base"


@pytest.fixture
def trained(base: Path, tmp_path: Path) -> Path:
    return write_trained(tmp_path / "trained", base, fingerprint(base))


def write_trained(folder: Path, base: Path, revision: str) -> Path:
    folder.mkdir(exist_ok=True)
    document: dict[str, Any] = {"schema": "policy/1", "revision": revision, "config": {"policy": f"tiny:{base}"}}
    (folder / "policy.json").write_text(json.dumps(document))
    (folder / "adapter.safetensors").write_bytes(b"adapter")
    return folder


def test_a_base_is_known_by_all_bytes_of_what_is_read(base: Path) -> None:
    first = fingerprint(base)
    (base / "sheet.png").write_text("other")
    (base / "all-in-one.safetensors").unlink()
    assert fingerprint(base) == first
    (base / "transformer" / "config.json").write_text("other")
    other = fingerprint(base)
    assert other != first
    (base / PARTS[0]).write_bytes(b"\x3f" * MIB + b"\0" * MIB)
    assert fingerprint(base) not in (first, other)


def test_a_policy_s_files_are_its_own_and_its_base_s(base: Path, trained: Path) -> None:
    found = list(policy_files(str(trained)))
    assert found == [trained / "policy.json", trained / "adapter.safetensors"] + [
        base / name for name in ("model_index.json", *PARTS)
    ]


def test_another_base_is_refused_by_both_revisions(base: Path, trained: Path, tmp_path: Path) -> None:
    first = fingerprint(base)
    config = PolicyConfig(dataset="none", policy=f"tiny:{base}")
    check_same_base(trained, config)
    check_same_base(tmp_path / "fresh", config)
    (base / PARTS[0]).write_bytes(b"\x3f" * MIB + b"\0" * MIB)
    told = (
        rf"^{trained}: was trained on revision {first} of tiny:{base}, which is now {fingerprint(base)}; put that one"
    )
    with pytest.raises(BadInput, match=told):
        policy_files(str(trained))
    with pytest.raises(RunConflict, match=told):
        check_same_base(trained, config)


def test_a_policy_of_an_earlier_version_is_compared_by_its_hash(base: Path, tmp_path: Path) -> None:
    trained = write_trained(tmp_path / "trained", base, earlier_fingerprint(base))
    assert policy_files(str(trained))
    (base / PARTS[0]).write_bytes(b"\0" + b"\x3f" * (2 * MIB - 1))
    with pytest.raises(BadInput, match=r"was trained on revision [0-9a-f]{16} of tiny:"):
        policy_files(str(trained))


def test_what_is_missing_is_named(base: Path, trained: Path) -> None:
    def fault() -> str:
        with pytest.raises(BadInput) as error:
            policy_files(str(trained))
        return str(error.value)

    with pytest.raises(BadInput, match="does not say where it is; write policy:RUN/policy/NAME"):
        policy_files(None)
    (base / "model_index.json").unlink()
    assert "base: holds no model_index.json; give the folder of a FLUX.2-klein checkpoint" in fault()
    (trained / "adapter.safetensors").unlink()
    assert "adapter.safetensors: does not exist; train the policy anew" in fault()
    for text in ("{", "[]", '{"config": 3}', '{"config": {"policy": 3}}'):
        (trained / "policy.json").write_text(text)
        assert "policy.json: names no base policy: " in fault()
    (trained / "policy.json").unlink()
    assert "policy.json: does not exist; train the policy" in fault()


def test_the_editor_of_a_build_is_known_by_them(
    base: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editors = {"policy": "training.policy.editor:make_editor"}
    files = {"policy": "training.policy.files:policy_files"}
    monkeypatch.syspath_prepend(str(offer(tmp_path / "packages", "policies", editors, files)))
    first = identify(editor_source(f"policy:{trained}"))
    names = [file.name for file in first.files]
    assert names == ["adapter.safetensors", "base/model_index.json", "policy.json", *sorted(PARTS)]
    (base / PARTS[1]).write_text("other words")
    write_trained(trained, base, fingerprint(base))
    assert changes(first, identify(editor_source(f"policy:{trained}"))) == [
        f"the bytes of {trained / 'policy.json'} changed",
        f"the bytes of {base / PARTS[1]} changed",
    ]
