"""The device that models run on: torch's, of the names `auto`, `cpu`, `cuda`, `cuda:1` and `mps`.

`python -m pipeline.models.devices` prints those that this machine has.
"""

import subprocess
import sys
from typing import TYPE_CHECKING

from runtime.checkout import CHECKOUT
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


def places_of(device: str, model_workers: int) -> tuple[str, ...]:
    """The device of each model process: those that `device` names (`cuda:0,cuda:1`), or every GPU for `auto`.

    model_workers: processes on the CPU. Torch is asked in a process of its own, so that this one need not load it.
    Raises: BadInput where it cannot be asked.
    """
    names = [name.strip() for name in device.split(",")]
    if names == ["auto"]:
        command = [sys.executable, "-m", "pipeline.models.devices"]
        answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if answer.returncode:
            said = (answer.stderr.strip().splitlines() or ["it says nothing"])[-1][:200]
            raise BadInput("--device auto", f"cannot ask torch for the GPUs: {said}", "name them, or give --device cpu")
        names = [name for name in answer.stdout.splitlines()[-1].split() if name != "cpu"] or ["cpu"]
    return tuple(names) if names != ["cpu"] else ("cpu",) * model_workers


if __name__ == "__main__":
    print(*devices_there())
