"""Weights that do not fit into memory are not taken for a damaged file."""

from pathlib import Path

import pytest
import safetensors
import torch

from pipeline.models.checkpoint import read_weights
from schemas.errors import OutOfMemory

NO_MEMORY = [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OSError(12, "")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_memory_that_ran_out_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fails)
    monkeypatch.setattr(safetensors, "safe_open", fails)
    with pytest.raises(OutOfMemory, match=rf"{name}: does not fit into memory; free some"):
        read_weights(tmp_path / name)
