"""The segmenter's weights and a training under way, as files: safetensors for numbers, JSON for what they mean.

<folder>/state.json                a training under way: step, history, config; written last
<folder>/state-<step>.safetensors  weights, their average and the optimiser's moments
<folder>/pool-<digest>.npz         the training pictures; made again where it is missing
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from pipeline.models.sam_architectures import SamSizes, build_sam, sizes_from_metadata, sizes_to_metadata
from runtime.files import whole_file, write_whole
from schemas.errors import BadInput, RunConflict
from schemas.record import short_hash
from training.segmenter.config import SegmenterConfig
from training.segmenter.data import Pool, make_pool

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

STATE_SCHEMA = "segmenter-training/1"
_REMEDY = "remove it and train anew"


class Progress:
    """A training under way: the network, its average, the optimiser, the steps done and what was logged.

    lengths: step from which it held -> `config.steps`; one entry unless the length was changed on the way.
    """

    def __init__(self, sam: "Sam", optimizer: torch.optim.Optimizer) -> None:
        self.sam, self.optimizer = sam, optimizer
        self.average = {name: tensor.detach().clone() for name, tensor in sam.state_dict().items()}
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.lengths: dict[str, int] = {}

    @torch.no_grad()
    def averaged(self, decay: float) -> None:
        """Takes the weights of now into the average; early on it follows them closely."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.sam.state_dict().items():
            self.average[name].lerp_(tensor, 1 - decay)


def write_state(folder: Path, config: SegmenterConfig, progress: Progress) -> None:
    """Writes a checkpoint: tensors first, then the JSON that names them; older tensors go."""
    name = f"state-{progress.step:06d}.safetensors"
    tensors = {f"weight/{key}": tensor for key, tensor in progress.sam.state_dict().items()}
    tensors |= {f"average/{key}": tensor for key, tensor in progress.average.items()}
    for index, moments in progress.optimizer.state_dict()["state"].items():
        tensors |= {f"moment/{index}/{kind}": tensor for kind, tensor in moments.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, save({key: tensor.detach().contiguous() for key, tensor in tensors.items()}))
    document = {
        "schema": STATE_SCHEMA,
        "config": config.model_dump(mode="json"),
        "step": progress.step,
        "lengths": progress.lengths,
        "history": progress.history,
        "tensors": name,
    }
    write_whole(folder / "state.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    for path in folder.glob("state-*.safetensors"):
        if path.name != name:
            path.unlink()


def restore_state(folder: Path, config: SegmenterConfig, progress: Progress) -> bool:
    """Puts the folder's checkpoint into `progress`; False where there is none.

    Only the length may differ from what the training began with: the rate then goes down to its end.
    Raises: BadInput for a damaged one; RunConflict, naming the setting, for one of another config.
    """
    path = folder / "state.json"
    if not path.is_file():
        progress.lengths = {"0": config.steps}
        return False
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != STATE_SCHEMA:
            raise BadInput(str(path), f"says schema {document['schema']!r}, expected {STATE_SCHEMA}", _REMEDY)
        check_same_config(path, document["config"], config)
        tensors = load((folder / document["tensors"]).read_bytes())
        _put_back(progress, tensors)
        progress.step, progress.history = int(document["step"]), list(document["history"])
        progress.lengths = {str(step): int(steps) for step, steps in document["lengths"].items()}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(str(path), f"cannot be gone on from: {error}", _REMEDY) from None
    if document["config"]["steps"] != config.steps:
        progress.lengths[str(progress.step)] = config.steps
    return True


def _put_back(progress: Progress, tensors: dict[str, Tensor]) -> None:
    progress.sam.load_state_dict(_below(tensors, "weight/"))
    average = _below(tensors, "average/")
    if {name: tensor.shape for name, tensor in average.items()} != {
        name: tensor.shape for name, tensor in progress.average.items()
    }:
        raise ValueError("the average is of another network")
    progress.average = average
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "moment/").items():
        index, _, kind = name.partition("/")
        moments.setdefault(int(index), {})[kind] = tensor
    groups = progress.optimizer.state_dict()["param_groups"]
    progress.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_same_config(path: Path, before: dict[str, Any], config: SegmenterConfig) -> None:
    """Raises: RunConflict, naming the first setting but the length that a training under way has otherwise."""
    for name, value in config.model_dump(mode="json").items():
        if name != "steps" and before.get(name) != value:
            fault = f"was trained with {name} = {before.get(name)!r}, now it is {value!r}"
            raise RunConflict(str(path), fault, "give another folder, or the same settings")


def write_weights(path: Path, tensors: dict[str, Tensor], sizes: SamSizes, facts: dict[str, str]) -> None:
    """Writes the weights in fp16, with their architecture and `facts` as metadata."""
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(halves, metadata=sizes_to_metadata(sizes) | facts))


def read_metadata(path: Path) -> dict[str, str]:
    """What a weights' file says of itself. Raises: BadInput where it is missing or damaged."""
    try:
        with safe_open(path, "pt") as opened:
            return dict(opened.metadata() or {})
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", "train it: python -m training.segmenter.train") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(str(path), f"is no safetensors file: {error}", _REMEDY) from None


def load_weights(path: Path) -> "Sam":
    """The Sam in a file of `write_weights`, in fp32 and evaluation mode. Raises: BadInput for any other file."""
    try:
        sizes = sizes_from_metadata(read_metadata(path))
        if sizes is None:
            raise ValueError("it does not name its architecture")
        sam = build_sam(sizes)
        sam.load_state_dict(load(path.read_bytes()))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInput(str(path), f"holds no weights of this training: {error}", _REMEDY) from None
    return sam.eval()


def pool_in(folder: Path, config: SegmenterConfig) -> Pool:
    """The training pictures of `config`, from the folder where they are there, else made (some minutes) and kept."""
    path = folder / f"pool-{short_hash('segmenter pool', config.seed, config.pool)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return Pool(kept["images"], kept["labels"])
    pool = make_pool(config.seed, config.pool)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        np.savez(stream, images=pool.images_nhwc_u8, labels=pool.labels_nhw)
    return pool
