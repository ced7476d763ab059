"""A trained adapter as a file that diffusers' own `load_lora_weights` reads, for pipelines outside regionwise.

Names begin with the part of the pipeline that they belong to; rank, alpha and layers stand in the metadata. Without the
first diffusers loads nothing, without the second it takes the rank for alpha: neither is an error there.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from training.checkpoint import read_tensors, write_tensors

#: The name that `load_lora_weights(FOLDER)` looks for first.
LORA_FILE = "pytorch_lora_weights.safetensors"


def write_lora(folder: Path, adapter: Mapping[str, Tensor], rank: int, alpha: int) -> None:
    """Writes an adapter, by the names of `Policy.trained`, for diffusers. Raises: CheckpointFailed.

    Source: diffusers' `Flux2KleinPipeline.save_lora_weights`; of peft's settings those alone that are not its own.
    """
    tensors, layers = {}, set()
    for name, tensor in adapter.items():
        layer, matrix, _, weight = name.rsplit(".", 3)  # peft puts its own name for the adapter between
        tensors[f"transformer.{layer}.{matrix}.{weight}"] = tensor
        layers.add(layer)
    settings = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(layers)}
    said = {f"transformer.{name}": value for name, value in settings.items()}
    write_tensors(folder / LORA_FILE, tensors, {"lora_adapter_metadata": json.dumps(said, sort_keys=True)})


def add_lora(folder: Path, rank: int, alpha: int) -> None:
    """Writes the file into the folder of a trained policy that an earlier version left without.

    Raises: BadInput where its adapter is missing or damaged; CheckpointFailed.
    """
    if not (folder / LORA_FILE).is_file():
        write_lora(folder, read_tensors(folder / "adapter.safetensors", "train the policy anew"), rank, alpha)
