"""What a trained policy and its training under way keep as files; `training.checkpoint` writes, reads and checks them.

<folder>/policy.json           schema, base policy, config, updates done, revision; written last
<folder>/adapter.safetensors   the averaged adapter (EMA) that tests and editors use; for diffusers see `lora_file`
<folder>/training/             a training under way: update, history, trials; adapter, its average, moments
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import BadInput, RunConflict
from training import checkpoint
from training.checkpoint import StateFormat
from training.dataset_identity import check_same_dataset
from training.policy.config import PolicyConfig, found_settings, kept_settings, with_absolute_folders
from training.policy.files import check_base

SCHEMA, VERSION = "policy", 1
#: Version 2 says which dataset is learnt from.
STATE_VERSION = 2
_MISMATCH, _TRAIN_ANEW = "is an adapter of another model", "train the policy anew"
_DOCUMENT_REMEDY = "train the policy, or give the folder of one"
#: The free settings say what is written, not what is learnt; the dataset has a digest.
STATE = StateFormat(
    schema="policy-training",
    version=STATE_VERSION,
    counter="update",
    digits=6,
    fields={"stopped": str, "history": list, "trials": list},
    mismatch=_MISMATCH,
    document_remedy=_DOCUMENT_REMEDY,
    remedy=_TRAIN_ANEW,
    free_settings=frozenset(
        {
            "dataset",
            "updates",
            "tensorboard",
            "evaluate_every",
            "sheet_every",
            "checkpoint_every",
            "reward_timeout_s",
            "reward_threads",
        }
    ),
)


def read_policy(path: Path) -> dict[str, Any]:
    """A policy.json. Raises: BadInput where there is none, or another document; NewerSchema for a later one."""
    return checkpoint.read_document(path, SCHEMA, VERSION, _DOCUMENT_REMEDY)


def read_adapter(path: Path, trained: Mapping[str, Tensor]) -> None:
    """Puts a file's adapter into a policy. Raises: BadInput, naming the first tensor that does not fit."""
    put_adapter(path, trained, checkpoint.read_tensors(path, _TRAIN_ANEW))


def put_adapter(path: Path, trained: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Puts an adapter's tensors into a policy. Raises: BadInput, naming the first that does not fit."""
    remedy = "give the policy that it was trained on, and its rank"
    checkpoint.put_tensors(path, trained, tensors, _MISMATCH, remedy, remedy_not_finite=_TRAIN_ANEW)


def read_state(out: Path, config: PolicyConfig) -> dict[str, Any] | None:
    """The training under way in `out`, None where there is none.

    Raises: BadInput for a damaged one; NewerSchema; RunConflict for another config or dataset.
    """
    state = checkpoint.read_state(out / "training", STATE)
    if state is not None:
        check_same_dataset(out, state, config.dataset, STATE)
        before = with_absolute_folders(found_settings(state["config"], out))
        now = config.model_dump(mode="json")
        checkpoint.check_same_config(out, kept_settings(before, out), kept_settings(now, out), STATE)
        if not state["trials"]:
            fault = "is damaged: field trials is empty"
            raise BadInput(str(out / "training" / checkpoint.STATE_FILE), fault, _DOCUMENT_REMEDY)
    return state


def check_same_base(out: Path, config: PolicyConfig) -> None:
    """Raises: RunConflict where the base policy is another one than the policy in `out` was trained on so far."""
    if not (out / "policy.json").is_file():
        return
    try:
        check_base(out, read_policy(out / "policy.json"), config.policy)
    except BadInput as error:
        raise RunConflict(error.thing, error.fault, error.remedy) from None


def write_state(
    out: Path,
    config: PolicyConfig,
    trained: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    kept: Mapping[str, Any],
) -> None:
    """Writes a checkpoint. kept: updates done, why it stopped, history, trials, dataset. Raises: CheckpointFailed."""
    tensors = checkpoint.state_tensors({"adapter": trained, "average": average}, optimizer)
    settings = kept_settings(config.model_dump(mode="json"), out)
    checkpoint.write_state(out / "training", STATE, settings, kept, tensors)


def restore_state(
    out: Path,
    state: Mapping[str, Any],
    trained: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Puts adapter, average and moments of a checkpoint back. Raises: BadInput where they do not fit."""
    groups = {"adapter": trained, "average": average}
    checkpoint.restore_tensors(out / "training", STATE, state, groups, optimizer)
