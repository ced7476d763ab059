"""The one cache of loaded models: what makes another model, and what is held meanwhile."""

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pipeline.models.cache import ModelCache


class Loaded:
    """A model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.json").write_text("1")
    return folder


def test_the_same_files_and_settings_are_one_model(folder: Path) -> None:
    cache: ModelCache[Loaded] = ModelCache()
    first = cache.get(f"x:{folder}", ("cpu", "auto"), Loaded)
    assert cache.get(f"x:{folder}", ("cpu", "auto"), Loaded) is first
    assert ModelCache[Loaded]().get(f"x:{folder}", ("cpu", "auto"), Loaded) is not first


def test_another_spec_setting_or_file_is_another_model(folder: Path) -> None:
    cache: ModelCache[Loaded] = ModelCache()
    seen = [cache.get(f"x:{folder}", ("cpu", "auto"), Loaded)]

    def is_new(spec: str, *settings: str | int) -> bool:
        seen.append(cache.get(spec, settings, Loaded))
        return seen[-1] is not seen[-2]

    spec, file = f"y:{folder}", folder / "a.json"
    assert is_new(spec, "cpu", "auto")
    assert is_new(spec, "cuda", "auto")
    assert is_new(spec, "cuda", 4)
    file.write_text("22")
    assert is_new(spec, "cuda", 4)
    os.utime(file, ns=(0, 0))
    assert is_new(spec, "cuda", 4)
    (folder / "b.json").write_text("1")
    assert is_new(spec, "cuda", 4)
    (folder / "b.json").rename(folder / "c.json")
    assert is_new(spec, "cuda", 4)
    assert is_new(f"y:{file}", "cuda", 4)
    file.unlink()
    assert is_new(f"y:{file}", "cuda", 4)
    assert is_new("y", "cuda", 4)
    assert not is_new("y", "cuda", 4)


def test_the_kept_model_is_let_go_before_the_next_is_loaded(folder: Path) -> None:
    cache: ModelCache[Loaded] = ModelCache()
    first = weakref.ref(cache.get(f"x:{folder}", ("cpu",), Loaded))
    held: list[bool] = []

    def load() -> Loaded:
        gc.collect()
        held.append(first() is not None)
        return Loaded()

    cache.get(f"x:{folder}", ("cuda",), load)
    assert held == [False]


def test_a_model_that_does_not_load_is_tried_again(folder: Path) -> None:
    cache: ModelCache[Loaded] = ModelCache()

    def broken() -> Loaded:
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            cache.get(f"x:{folder}", (), broken)
    assert isinstance(cache.get(f"x:{folder}", (), Loaded), Loaded)


def test_threads_that_ask_at_once_get_one_model_and_a_model_may_load_another(folder: Path) -> None:
    outer: ModelCache[list[Loaded]] = ModelCache()
    inner: ModelCache[Loaded] = ModelCache()
    together = Barrier(4)

    def ask(_: int) -> list[Loaded]:
        together.wait()
        return outer.get(f"x:{folder}", (), lambda: [inner.get(f"y:{folder}", (), Loaded)])

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(ask, range(4))
    assert all(other is first for other in others)
