"""What the segmenter keeps as files; `training.checkpoint` writes, reads and checks them.

<folder>/sam_tiny.safetensors      the averaged weights in fp16, with how they were made as metadata
<folder>/state.json                a training under way: step, history, config; written last
<folder>/state-<step>.safetensors  weights, their average and the optimiser's moments
<folder>/pool-<digest>.npz         the training pictures; made again where it is missing
"""

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.models.sam_architectures import SamSizes, build_sam, sizes_from_metadata, sizes_to_metadata
from runtime.files import whole_file
from schemas.errors import BadInput
from schemas.record import short_hash
from training import checkpoint
from training.checkpoint import StateFormat
from training.segmenter.config import SegmenterConfig
from training.segmenter.data import SIZE_PX, Pool, make_pool

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_REMEDY = "remove it and train anew"
#: Only the length may differ from what the training began with: the rate then goes down to its end.
STATE = StateFormat(
    schema="segmenter-training",
    version=1,
    counter="step",
    digits=6,
    fields={"lengths": dict, "history": list},
    mismatch="holds weights of another network",
    document_remedy=_REMEDY,
    remedy=f"remove {checkpoint.STATE_FILE} beside it and train anew",
    free_settings=frozenset({"steps"}),
    sort_keys=False,
)


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
        """Updates the moving average with the current weights; early on it follows them closely."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.sam.state_dict().items():
            self.average[name].lerp_(tensor, 1 - decay)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Weights and their average, as a checkpoint groups them."""
        return {"weight": self.sam.state_dict(), "average": self.average}


def write_state(folder: Path, config: SegmenterConfig, progress: Progress) -> None:
    """Writes a checkpoint. Raises: CheckpointFailed."""
    tensors = checkpoint.state_tensors(progress.tensors(), progress.optimizer)
    fields = {"step": progress.step, "lengths": progress.lengths, "history": progress.history}
    checkpoint.write_state(folder, STATE, config.model_dump(mode="json"), fields, tensors)


def restore_state(folder: Path, config: SegmenterConfig, progress: Progress) -> bool:
    """Puts the folder's checkpoint into `progress`; False where there is none.

    Raises: BadInput for a damaged one; NewerSchema; RunConflict, naming the setting, for one of another config.
    """
    state = checkpoint.read_state(folder, STATE)
    if state is None:
        progress.lengths = {"0": config.steps}
        return False
    path = folder / checkpoint.STATE_FILE
    checkpoint.check_same_config(path, state["config"], config.model_dump(mode="json"), STATE)
    checkpoint.check_fields(path, state["lengths"], dict.fromkeys(state["lengths"], int), _REMEDY)
    checkpoint.restore_tensors(folder, STATE, state, progress.tensors(), progress.optimizer)
    progress.step, progress.history, progress.lengths = state["step"], state["history"], state["lengths"]
    if state["config"]["steps"] != config.steps:
        progress.lengths[str(progress.step)] = config.steps
    return True


def write_weights(path: Path, tensors: dict[str, Tensor], sizes: SamSizes, facts: dict[str, str]) -> None:
    """Writes the weights in fp16, with their architecture and `facts` as metadata. Raises: CheckpointFailed."""
    halves = {name: tensor.detach().to(torch.float16) for name, tensor in tensors.items()}
    checkpoint.write_tensors(path, halves, metadata=sizes_to_metadata(sizes) | facts)


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
    fault = "holds no weights of this training"
    try:
        sizes = sizes_from_metadata(read_metadata(path))
        if sizes is None:
            raise ValueError("it does not name its architecture")
        sam = build_sam(sizes)
    except ValueError as error:
        raise BadInput(str(path), f"{fault}: {error}", _REMEDY) from None
    checkpoint.put_tensors(path, sam.state_dict(), checkpoint.read_tensors(path, _REMEDY), fault, _REMEDY)
    return sam.eval()


def pool_in(folder: Path, config: SegmenterConfig) -> Pool:
    """The training pictures of `config`, from the folder where they are there, else made (some minutes) and kept.

    Raises: BadInput for a damaged file; CheckpointFailed.
    """
    path = _pool_file(folder, config)
    if path.is_file():
        return _read_pool(path)
    pool = make_pool(config.seed, config.pool)
    with checkpoint.reported_as_failed(path), whole_file(path) as stream:
        np.savez(stream, images=pool.images_nhwc_u8, labels=pool.labels_nhw)
    return pool


def missing_pool_bytes(folder: Path, config: SegmenterConfig) -> int:
    """What `pool_in` would write; 0 where the pictures are there."""
    return 0 if _pool_file(folder, config).is_file() else 4 * SIZE_PX * SIZE_PX * config.pool


def _pool_file(folder: Path, config: SegmenterConfig) -> Path:
    return folder / f"pool-{short_hash('segmenter pool', config.seed, config.pool)}.npz"


def _read_pool(path: Path) -> Pool:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return Pool(kept["images"], kept["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(str(path), f"holds no training pictures: {error}", "remove it: it is made again") from None
