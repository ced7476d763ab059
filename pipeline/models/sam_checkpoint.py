"""Checkpoints of segment-anything's Sam: published `.pth` files and safetensors, read as untrusted files.

The architecture follows from the tensors. Nothing is fetched: a file that is not there is an error that says where to
get it. This module needs torch; `pipeline.models.sam` imports it only when a segmenter is made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from pipeline.models.checkpoint import Weights, read_weights
from pipeline.models.revisions import file_sha256
from pipeline.models.sam_architectures import (
    ARCHITECTURES,
    PIXEL_MEAN,
    PIXEL_STD,
    SamSizes,
    build_sam,
    name_of,
    sizes_from_metadata,
    sizes_of_tensors,
    sizes_to_metadata,
)
from pipeline.models.sam_files import REMEDY
from runtime.files import write_whole
from schemas.errors import BadInput

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class SamCheckpoint:
    """A Sam with its weights (fp32, CPU, no gradients), its sizes, and the sha256 of the file they came from."""

    sam: "Sam"
    sizes: SamSizes
    sha256: str

    @property
    def architecture(self) -> str:
        """The name of the architecture; `custom` for sizes that have none."""
        return name_of(self.sizes) or "custom"


def read_checkpoint(path: Path) -> SamCheckpoint:
    """The Sam in a checkpoint.

    Raises: BadInput for a file that cannot be read, is no Sam, is of an unknown architecture, or holds NaN.
    """
    weights = _read(path)
    tensors, sizes = weights.tensors, sizes_of(path, weights.tensors, weights.metadata)
    with torch.device("meta"):  # no time and no memory for weights that are replaced
        sam = build_sam(sizes)
    _check_fits(path, tensors, sam.state_dict())
    sam.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    sam.pixel_mean = torch.tensor(PIXEL_MEAN).view(-1, 1, 1)
    sam.pixel_std = torch.tensor(PIXEL_STD).view(-1, 1, 1)
    return SamCheckpoint(sam.requires_grad_(False).eval(), sizes, file_sha256(path))


def write_checkpoint(path: Path, sam: "Sam", sizes: SamSizes, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a Sam as safetensors in the precision it has, with its sizes and `metadata` beside the tensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sam.state_dict().items()}
    write_whole(path, save(tensors, {**(metadata or {}), **sizes_to_metadata(sizes)}))


def _read(path: Path) -> Weights:
    try:
        weights = read_weights(path)
    except BadInput as error:
        raise BadInput(error.thing, error.fault, REMEDY) from None
    # No two tensors of a Sam are one, as they are in other models.
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.tensors.values()) > path.stat().st_size:
        raise BadInput(str(path), "claims more weights than it has bytes", REMEDY)
    return weights


def sizes_of(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SamSizes:
    """The architecture of the tensors; one of the table's where no metadata vouch for another.

    Raises: BadInput, naming the file, where they are no Sam, or one of an unknown architecture.
    """
    try:
        stated = sizes_from_metadata(metadata)
        found = sizes_of_tensors({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except KeyError as error:
        raise BadInput(str(path), f"is no Sam of segment-anything: it has no tensor {error.args[0]}", REMEDY) from None
    except (ValueError, IndexError, ZeroDivisionError, TypeError, RecursionError) as error:
        raise BadInput(str(path), f"is no Sam of segment-anything: {error}", REMEDY) from None
    for sizes in [stated] if stated else ARCHITECTURES.values():
        if replace(sizes, decoder_heads=1) == replace(found, decoder_heads=1):  # what tensors do not tell
            return sizes
    if stated:
        raise BadInput(str(path), "has tensors of another architecture than its metadata say", REMEDY)
    raise BadInput(
        str(path),
        f"is a Sam of an unknown architecture ({found.image_px} px, {found.encoder_depth} blocks of "
        f"{found.encoder_dim})",
        f"give one of {', '.join(ARCHITECTURES)}, or a safetensors file that states its sizes",
    )


def _check_fits(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises: BadInput, naming the first tensor that is missing, left over, of another shape, or not finite."""
    for name in sorted({*wanted, *tensors}):
        shapes = [tuple(side[name].shape) if name in side else None for side in (tensors, wanted)]
        if shapes[0] != shapes[1]:
            raise BadInput(str(path), f"tensor {name} is {shapes[0]}, expected {shapes[1]}", REMEDY)
        if not tensors[name].is_floating_point():
            raise BadInput(str(path), f"tensor {name} is {tensors[name].dtype}, expected floats", REMEDY)
        if not math.isfinite(float(tensors[name].float().abs().max())):
            raise BadInput(str(path), f"tensor {name} has values that are not finite", REMEDY)
