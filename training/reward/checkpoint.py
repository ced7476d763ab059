"""What a trained reward and its training under way keep as files; `training.checkpoint` writes, reads and checks them.

<folder>/reward.json           schema, architecture, network, config and its digest, calibration; written last
<folder>/reward.safetensors    the weights
<folder>/training.json         the metrics of a training that ended
<folder>/training/             a training under way: step, history, sums of losses; weights and moments
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas.errors import BadInput
from training import checkpoint
from training.checkpoint import StateFormat
from training.dataset_identity import check_same_dataset
from training.reward.config import RewardConfig, found_settings, kept_settings
from training.reward.network import ARCHITECTURE
from training.reward.objective import Parts

SCHEMA, VERSION = "region-reward", 1
#: Version 2 says which dataset is learnt from.
STATE_VERSION = 2
_MISMATCH, _TRAIN_ANEW = "holds weights of another network", "train the reward anew"
STATE = StateFormat(
    schema="region-reward-training",
    version=STATE_VERSION,
    counter="step",
    digits=7,
    fields={"history": list, "finished": bool},
    mismatch=_MISMATCH,
    document_remedy="remove the folder",
    remedy=_TRAIN_ANEW,
    free_settings=frozenset({"dataset"}),
)


def read_reward(path: Path, remedy: str) -> dict[str, Any]:
    """A reward.json of this architecture. Raises: BadInput for another, or where there is none; NewerSchema."""
    document = checkpoint.read_document(path, SCHEMA, VERSION, remedy)
    check_architecture(path, document)
    checkpoint.check_fields(path, document, {"calibration": dict}, _TRAIN_ANEW)
    return document


def check_architecture(path: Path, document: Mapping[str, Any]) -> None:
    """Raises: BadInput, naming both, where the weights are of another architecture."""
    found = document.get("architecture")
    if found != ARCHITECTURE:
        fault = f"has architecture {str(found)[:80]!r}; this version runs {ARCHITECTURE!r}"
        raise BadInput(str(path), fault, "train it anew")


def read_weights(path: Path, network: nn.Module) -> None:
    """Puts a file's weights into a network; half precision, too, is copied into the network's own.

    Raises: BadInput, naming the first weight that does not fit.
    """
    tensors = checkpoint.read_tensors(path, _TRAIN_ANEW)
    checkpoint.put_tensors(path, network.state_dict(), tensors, "holds a weight of another network", _TRAIN_ANEW)


def read_metrics(out: Path) -> dict[str, Any]:
    """What a training that ended said of itself. Raises: BadInput where that is missing or damaged."""
    return dict(checkpoint.read_json(out / "training.json", "remove the folder"))


def write_state(
    out: Path,
    config: RewardConfig,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: Mapping[str, Any],
    *,
    finished: bool,
) -> None:
    """Writes a checkpoint. kept: step, history, sums of the losses since its last point, which dataset.

    Raises: CheckpointFailed.
    """
    fields = {"architecture": ARCHITECTURE, **kept, "finished": finished}
    tensors = None if finished else checkpoint.state_tensors({"weight": network.state_dict()}, optimizer)
    settings = kept_settings(config.model_dump(mode="json"), out)
    checkpoint.write_state(out / "training", STATE, settings, fields, tensors)


def read_state(out: Path, config: RewardConfig) -> dict[str, Any] | None:
    """The training under way in `out`, None where there is none.

    Raises: BadInput for a damaged one, or of another architecture; NewerSchema; RunConflict for another config or
    dataset.
    """
    state = checkpoint.read_state(out / "training", STATE)
    if state is None:
        return None
    path = out / "training" / checkpoint.STATE_FILE
    check_architecture(path, state)
    check_same_dataset(out, state, config.dataset, STATE)
    before, now = found_settings(state["config"], out), config.model_dump(mode="json")
    checkpoint.check_same_config(out, kept_settings(before, out), kept_settings(now, out), STATE)
    sums = state.get("sums")
    whole = isinstance(sums, list) and [type(number) for number in sums] == [float] * len(Parts._fields)
    if not state["finished"] and not whole:
        raise BadInput(str(path), f"is damaged: field sums is not {len(Parts._fields)} numbers", "remove the folder")
    return state


def restore_state(out: Path, state: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts weights and moments of a checkpoint back. Raises: BadInput where they do not fit."""
    checkpoint.restore_tensors(out / "training", STATE, state, {"weight": network.state_dict()}, optimizer)
