"""The one choice of a device: what each name means on which machine, and one line for a device that is not there."""

import pytest
import torch

from pipeline.models.devices import choose_device
from schemas.errors import BadInput


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two CUDA GPUs, as far as torch is asked what is there and makes an empty tensor."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def empty(count: int, device: torch.device) -> None:
        if device.type == "cuda" and (device.index or 0) >= 2:
            raise RuntimeError("CUDA error: invalid device ordinal\nCUDA kernel errors might be reported elsewhere")
        if device.type == "mps":
            raise NotImplementedError("PyTorch is not linked with support for mps devices")

    monkeypatch.setattr(torch, "empty", empty)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU alone, whatever this one has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def empty(count: int, device: torch.device) -> None:
        if device.type != "cpu":
            raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "empty", empty)


@pytest.mark.parametrize(("name", "device"), [("auto", "cpu"), ("cpu", "cpu")])
def test_the_cpu_where_there_is_no_gpu(name: str, device: str, no_gpu: None) -> None:
    assert choose_device(name, "sam2") == torch.device(device)


@pytest.mark.parametrize(("name", "device"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_the_gpu_that_is_named_or_the_first(name: str, device: str, two_gpus: None) -> None:
    assert choose_device(name, "sam2") == torch.device(device)


@pytest.mark.parametrize("name", ["cuda", "cuda:99", "mps", "meta", "abacus", "", "cuda:-1", "cpu\nx"])
def test_a_device_that_is_not_there_is_one_line_that_names_what_is(name: str, no_gpu: None) -> None:
    with pytest.raises(BadInput, match=r"^sam2: cannot use device '.*': there is cpu; give --device cpu, or auto$"):
        choose_device(name, "sam2")


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_the_gpus_that_are_there_are_named(name: str, two_gpus: None) -> None:
    with pytest.raises(BadInput, match=f"^sam2: cannot use device '{name}': there is cpu, cuda:0, cuda:1; give"):
        choose_device(name, "sam2")
