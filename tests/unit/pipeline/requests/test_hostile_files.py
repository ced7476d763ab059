"""Files made by somebody else: each is one clear refusal, never a traceback, a wait, or memory without bound."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from pipeline.dataset.shards import read_manifest
from pipeline.dataset.verify import verify
from runtime.files import NotPlainTar, add_to_tar, tar_members
from schemas.errors import BadInput
from schemas.sample import Sample
from tests.cases.dataset_cases import forged


def _exit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0), capsys.readouterr().err


def _tar(path: Path, change: Callable[[tarfile.TarInfo], None], **options: Any) -> None:
    with tarfile.open(path, "w", **options) as tar:
        info = tarfile.TarInfo("a.json")
        info.size = 2
        change(info)
        tar.addfile(info, io.BytesIO(b"{}"))


def _link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _device(info: tarfile.TarInfo) -> None:
    info.type, info.size = tarfile.CHRTYPE, 0


def _pax(info: tarfile.TarInfo) -> None:
    info.pax_headers = {"GNU.sparse.major": "1", "size": "9" * 5_000}


def _long_name(info: tarfile.TarInfo) -> None:
    info.name = "x" * 5_000


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (_link, {}),
        (_device, {}),
        (_pax, {"format": tarfile.PAX_FORMAT}),
        (_long_name, {"format": tarfile.GNU_FORMAT}),
    ],
)
def test_a_tar_of_anything_but_regular_files_is_refused(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], None], options: dict[str, Any]
) -> None:
    _tar(tmp_path / "a.tar", change, **options)
    with pytest.raises(NotPlainTar):
        list(tar_members(tmp_path / "a.tar"))


def test_a_size_beyond_the_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        add_to_tar(tar, "a.json", b"{}")
    data = bytearray((tmp_path / "a.tar").read_bytes())
    assert [(member.name, member.size) for member in tar_members(tmp_path / "a.tar")] == [("a.json", 2)]
    info = tarfile.TarInfo("a.json")
    info.size = 8**11 - 1
    (tmp_path / "big.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + data[512:])
    os.mkfifo(tmp_path / "pipe.tar")
    for name in ("big.tar", "pipe.tar"):
        with pytest.raises(NotPlainTar):
            list(tar_members(tmp_path / name))


def test_a_hostile_tar_that_its_manifest_vouches_for_is_a_fault(small_run: Path) -> None:
    shard = read_manifest(small_run / "dataset").shards[0]
    _tar(small_run / "dataset" / shard.name, _link)
    digest = forged(small_run / "dataset")
    assert [fault.shard for fault in verify(small_run / "dataset", expect=digest)[1]] == [shard.name]


@pytest.mark.parametrize("schema", ["sample/" + "9" * 5_000, "sample/²", "x" * 5_000])
def test_a_schema_version_of_any_length_is_refused(schema: str) -> None:
    with pytest.raises(BadInput):
        Sample.from_document({"schema": schema}, thing="row")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("run.json", lambda text: text.replace('"n_parts": 3', '"n_parts": 999999999')),
        ("run.json", lambda text: text.replace('"k": 3', '"k": "many"')),
        ("run.json", lambda text: text.replace("build-info/1", "build-info/" + "9" * 5_000)),
    ],
)
def test_a_run_folder_that_somebody_changed_is_one_line(
    small_run: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[str], str]
) -> None:
    path = small_run / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    for command in (("resume", "--run", small_run), ("export", "--run", small_run)):
        code, error = _exit(capsys, *command)
        assert (code in (1, 2), error.strip().count("\n")) == (True, 0), error


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gates/part-00001.attempts", "abc"),
        ("export/train-00000.tar.done.json", "{"),
        ("gates/part-00000.done.json", '{"rejected": {"[/x]": 1}}'),
    ],
)
def test_a_note_that_is_no_note_is_made_anew(
    small_run: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (small_run / name).write_text(text)
    (small_run / "gates" / "part-00001.done.json").unlink()
    assert _exit(capsys, "resume", "--run", small_run)[0] == 0
    assert verify(small_run / "dataset")[1] == []


@pytest.mark.parametrize(
    "text", ["scenes = " + "[" * 5_000, "scenes = " + "9" * 5_000, "scenes = 1\n[gates]\nmin_change = nan"]
)
def test_a_config_of_any_kind_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "build.toml").write_text(text)
    code, error = _exit(capsys, "build", "--run", tmp_path / "run", "--config", tmp_path / "build.toml")
    assert (code, error.count("\n")) == (2, 1), error


@pytest.mark.parametrize("path", ["a\x1b[31m.png", " " * 300 + ".png", "\x85", "a" * 900 + " " * 90])
def test_a_source_path_of_any_kind_is_a_reject(tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    line = {"id": "a", "sources": [path], "instruction": "x"}
    deep: dict[str, Any] = {"id": "deep", "sources": ["a.png"], "instruction": "x"}
    for _ in range(300):
        deep = {"a": deep}
    there = {"id": "there", "sources": ["r.jsonl"], "instruction": "x"}
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (line, deep, there)))
    code, error = _exit(capsys, "build", "--run", tmp_path / "run", "--requests", tmp_path / "r.jsonl", "--json")
    assert code == 3, error
