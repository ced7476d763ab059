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
from runtime.files import sha256_of_file, write_whole
from schemas.errors import BadInput

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

#: The weights of `sam:tiny` that the project ships.
TINY_WEIGHTS = Path(__file__).resolve().parent / "weights" / "sam_tiny.safetensors"
MAKE_TINY = "make them with `python -m training.segmenter.train`"
DOWNLOAD_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
PUBLISHED_FILES = {
    "vit_h": "sam_vit_h_4b8939.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_b": "sam_vit_b_01ec64.pth",
}
REMEDY = f"give a checkpoint of segment-anything, whole and unchanged; they are on {DOWNLOAD_PAGE}"
SUFFIXES = (".pth", ".pt", ".safetensors")


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


def checkpoint_path(place: str | None) -> Path:
    """The file that `sam:<place>` means.

    Raises: BadInput where the file is not there, naming it and where it comes from.
    """
    if place is None or place in PUBLISHED_FILES:
        file = PUBLISHED_FILES[place or "vit_b"]
        raise BadInput(
            f"segmenter {'sam:' + place if place else 'sam'!r}",
            "does not say where its weights are, and nothing is downloaded",
            f"download {file} from {DOWNLOAD_PAGE} and write sam:FOLDER/{file}; sam:tiny needs no download",
        )
    path = TINY_WEIGHTS if place == "tiny" else Path(place)
    if not path.is_file():
        remedy = MAKE_TINY if place == "tiny" else f"download a checkpoint from {DOWNLOAD_PAGE} and give its path"
        raise BadInput(str(path), "does not exist" if not path.exists() else "is no file", remedy)
    if path.suffix not in SUFFIXES:
        raise BadInput(str(path), f"does not end in {', '.join(SUFFIXES)}", REMEDY)
    return path


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
    return SamCheckpoint(sam.requires_grad_(False).eval(), sizes, sha256_of_file(path))


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
