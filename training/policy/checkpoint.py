"""A trained policy, and a training under way, as files: safetensors for numbers, JSON for what they mean. No pickle.

<folder>/policy.json           schema, base policy, config, updates done, revision; written last
<folder>/adapter.safetensors   the averaged adapter (EMA) that tests and editors use
<folder>/training/state.json   a training under way: update, history, the same config; written last
<folder>/training/state-<update>.safetensors   adapter, its average, the optimiser's moments

Everything is written beside its place and renamed, tensors before the JSON that names them: a full disk or a kill
leaves the checkpoint before as the last one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from runtime.files import write_whole
from schemas.errors import BadInput, RegionwiseError, RunConflict
from training import files
from training.policy.config import PolicyConfig

SCHEMA, STATE_SCHEMA, VERSION = "policy", "policy-training", 1
#: Settings that may change between the parts of one training: they say what is written, not what is learnt.
FREE = (
    "updates",
    "tensorboard",
    "evaluate_every",
    "sheet_every",
    "checkpoint_every",
    "reward_timeout_s",
    "reward_threads",
)


class CheckpointFailed(RegionwiseError):
    """A checkpoint could not be written; the one before it is whole."""


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors as safetensors, whole or not at all. Raises: CheckpointFailed where the disk does not take it."""
    write_file(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all. Raises: CheckpointFailed."""
    write_file(path, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file of a policy's folder, whole or not at all. Raises: CheckpointFailed."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Around what writes a file of a policy's folder. Raises: CheckpointFailed where the disk does not take it."""
    try:
        yield
    except OSError as error:
        remedy = "make room and start again: it goes on from the last checkpoint"
        raise CheckpointFailed(str(path), f"cannot be written: {error.strerror or error}", remedy) from None


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """A JSON file of `schema`. Raises: BadInput where there is none, or another; NewerSchema for a later one."""
    return files.read_document(path, schema, VERSION, "train the policy, or give the folder of one")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: BadInput where it is missing or damaged."""
    return files.read_tensors(path, "train the policy anew")


def put_adapter(trained: dict[str, nn.Parameter], tensors: dict[str, Tensor], path: Path) -> None:
    """Puts an adapter's tensors into a policy. Raises: BadInput, naming the first that does not fit."""
    _put(trained, tensors, path)


def _put(places: Mapping[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Copies tensors into their places once all fit. Raises: BadInput."""
    for name in sorted({*places, *tensors}):
        here, there = places.get(name), tensors.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (there, here)]
            fault = f"is an adapter of another model: {name} is {shapes[0]}, expected {shapes[1]}"
            raise BadInput(str(path), fault, "give the policy that it was trained on, and its rank")
        if not bool(torch.isfinite(there).all()):
            raise BadInput(str(path), f"holds numbers in {name} that are not finite", "train the policy anew")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])


def state_tensors(
    trained: dict[str, nn.Parameter], average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Adapter, its average, and the optimiser's moments, by name."""
    tensors = {f"adapter/{name}": parameter.data for name, parameter in trained.items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment/{index}/{name}": tensor for name, tensor in moments.items()}
    return tensors


def restore(
    trained: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    path: Path,
) -> None:
    """Puts what `state_tensors` gave back in its place. Raises: BadInput where it does not fit."""
    put_adapter(trained, _below("adapter/", tensors), path)
    _put(average, _below("average/", tensors), path)
    moments: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(trained.values()):
        moments[index] = _below(f"moment/{index}/", tensors)
        shapes = {name: tuple(tensor.shape) for name, tensor in moments[index].items()}
        if shapes != {"step": (), "exp_avg": tuple(parameter.shape), "exp_avg_sq": tuple(parameter.shape)}:
            raise BadInput(str(path), f"lacks moments of parameter {index} or has others", "train the policy anew")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_same_config(path: Path, document: dict[str, Any], config: PolicyConfig) -> None:
    """Raises: RunConflict, naming the first setting in which a training under way differs from `config`."""
    before, now = document.get("config") or {}, config.model_dump(mode="json")
    for name in sorted({*before, *now} - set(FREE)):
        if before.get(name) != now.get(name):
            fault = f"was trained with {name} = {before.get(name)!r}, now it is {now.get(name)!r}"
            raise RunConflict(str(path), fault, "give another folder, or the same settings")
