"""An editor of an installed package, in the processes of several workers."""

from pathlib import Path

import pytest

from pipeline.config import BuildConfig
from tests.cases.builds import build
from tests.cases.editor_plugin import offer_inverter
from tests.integration.builds import tars


def test_a_build_asks_it_on_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(offer_inverter(tmp_path / "packages")))
    config = BuildConfig(scenes=4, scene_size_px=64, part_requests=2, k=2, editor="inverter:1")
    for n_workers in (1, 2):
        build(tmp_path / str(n_workers), config, n_workers)
    assert len(tars(tmp_path / "1")) > 0
    assert tars(tmp_path / "1") == tars(tmp_path / "2")
