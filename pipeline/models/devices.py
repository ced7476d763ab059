"""The device that models run on: torch's, of the names `auto`, `cpu`, `cuda`, `cuda:1` and `mps`."""

from typing import TYPE_CHECKING

from schemas.errors import BadInput

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")


def choose_device(name: str, model: str) -> "torch.device":
    """The device of a name; `auto` is the first CUDA GPU where there is one, else the CPU.

    Raises: BadInput, naming the model and the devices that are there, where this machine has not the one asked for.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type in KINDS:
            torch.empty(1, device=device)  # a device may be listed and yet not be usable
            return device
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    there = ", ".join(devices_there())
    raise BadInput(model, f"cannot use device {name!r}: there is {there}", "give --device cpu, or auto")


def devices_there() -> list[str]:
    """The devices that this machine has, as torch names them."""
    import torch

    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
