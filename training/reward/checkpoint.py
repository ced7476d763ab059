"""A trained reward, and a training under way, as files: safetensors for numbers, JSON for what they mean. No pickle.

<folder>/reward.json           schema, architecture, network, config and its digest, calibration; written last
<folder>/reward.safetensors    the weights
<folder>/training/state.json   a training under way: step, history, the same config; written last
<folder>/training/state-<step>.safetensors   weights and the optimiser's moments
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from runtime.files import write_whole
from schemas.errors import BadInput, RunConflict
from training import files
from training.reward.config import RewardConfig
from training.reward.network import ARCHITECTURE

SCHEMA, VERSION = "region-reward", 1
STATE_SCHEMA = "region-reward-training"


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_whole(path, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_document(path: Path, schema: str, remedy: str) -> dict[str, Any]:
    """A JSON file of `schema`. Raises: BadInput where there is none, or another; NewerSchema for a later one."""
    return files.read_document(path, schema, VERSION, remedy)


def check_architecture(path: Path, document: dict[str, Any]) -> None:
    """Raises: BadInput, naming both, where the weights are of another architecture."""
    found = document.get("architecture")
    if found != ARCHITECTURE:
        raise BadInput(
            str(path), f"has architecture {str(found)[:80]!r}; this version runs {ARCHITECTURE!r}", "train it anew"
        )


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors as safetensors, whole or not at all."""
    write_whole(path, save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: BadInput where it is missing or damaged."""
    return files.read_tensors(path, "train the reward anew")


def load_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Puts weights into a network. Raises: BadInput, naming the first weight that does not fit."""
    wanted = network.state_dict()
    for name in sorted({*wanted, *tensors}):
        here, there = wanted.get(name), tensors.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (there, here)]
            raise BadInput(str(path), f"weight {name} is {shapes[0]}, expected {shapes[1]}", "train the reward anew")
    network.load_state_dict(tensors)  # half precision, too: it is copied into the network's own


def training_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and the optimiser's moments by name."""
    tensors = {f"weight/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment/{index}/{name}": tensor for name, tensor in moments.items()}
    return tensors


def restore_training(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path
) -> None:
    """Puts a state of `training_state` back. Raises: BadInput where it does not fit."""
    weights = {name.removeprefix("weight/"): t for name, t in tensors.items() if name.startswith("weight/")}
    load_weights(network, weights, path)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("moment/"):
            _, index, kind = name.split("/")
            moments.setdefault(int(index), {})[kind] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def check_same_config(path: Path, document: dict[str, Any], config: RewardConfig) -> None:
    """Raises: RunConflict, naming the first setting in which a training under way differs from `config`."""
    before, now = document.get("config") or {}, config.model_dump(mode="json")
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise RunConflict(
                str(path),
                f"was trained with {name} = {before.get(name)!r}, now it is {now.get(name)!r}",
                "give another folder, or the same settings",
            )
