"""`regionwise convert`: a published `.pth` as safetensors, or a GroundingDINO as the folder that transformers reads.

A `.pth` is a pickle, which can run code: it is read through `torch.load(weights_only=True)`, and what it holds beside
tensors is left out and named.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.models import groundingdino
from pipeline.models.checkpoint import PTH_SUFFIXES, Weights, read_json, read_weights, require_file
from pipeline.models.grounding import Preprocessing
from pipeline.models.groundingdino_keys import to_transformers, transformers_config
from pipeline.models.sam_architectures import sizes_to_metadata
from runtime.files import sha256_of_file, write_whole
from schemas.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("safetensors", "transformers")
#: Weights that tell an architecture by their names.
_SIGNS = {
    "groundingdino": ("transformer.tgt_embed.weight", "feat_map.weight", "bert.embeddings.word_embeddings.weight"),
    "segment-anything": ("image_encoder.patch_embed.proj.weight", "prompt_encoder.not_a_point_embed.weight"),
}


@dataclass(frozen=True)
class Conversion:
    """What was written. left_out: entries of the `.pth` beside its weights (optimiser, epoch)."""

    out: str
    architecture: str
    source_sha256: str
    tensors: int
    bytes: int
    left_out: tuple[str, ...]


def convert(source: Path, out: Path, to: str = "safetensors") -> Conversion:
    """Writes the weights of `source` to `out`: one `.safetensors` file, or with `to` = "transformers" a folder.

    Raises: BadInput where `source` is missing, damaged, a pickle that holds more than tensors, or cannot be written so.
    """
    require_file(source, "a checkpoint", "its model's page")
    _check_out(source, out, to)
    weights = read_weights(source)
    facts = {"source_sha256": sha256_of_file(source), "architecture": architecture_of(weights.tensors)}
    if to == "transformers":
        return _to_folder(source, out, weights, facts)
    if facts["architecture"] == "groundingdino":
        facts[groundingdino.SETTINGS_KEY] = json.dumps(groundingdino.model_settings(source, weights), sort_keys=True)
    if facts["architecture"] == "segment-anything":
        from pipeline.models.sam_checkpoint import sizes_of

        facts |= sizes_to_metadata(sizes_of(source, weights.tensors, weights.metadata))
    written = write_tensors(out, weights.tensors, facts)
    return _conversion(out, facts, len(weights.tensors), written, weights)


def architecture_of(tensors: Mapping[str, "Tensor"]) -> str:
    """Which architecture weights are of, by their names: "groundingdino", "segment-anything" or "unknown"."""
    return next((name for name, signs in _SIGNS.items() if all(sign in tensors for sign in signs)), "unknown")


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> int:
    """Writes tensors as safetensors, whole or not at all; returns its bytes."""
    from safetensors.torch import save

    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}  # some share their memory
    data = save(apart, metadata={"format": "pt", **metadata})
    write_whole(path, data)
    return len(data)


def _to_folder(source: Path, out: Path, weights: Weights, facts: Mapping[str, str]) -> Conversion:
    if facts["architecture"] != "groundingdino":
        fault = f"is of architecture {facts['architecture']!r}, which has no folder of transformers here"
        raise BadInput(str(source), fault, "give a GroundingDINO checkpoint, or leave --to away")
    settings = groundingdino.model_settings(source, weights)
    bert = source.parent / groundingdino.BERT_FOLDER
    groundingdino.load_bert(bert)  # its files are there and whole
    try:
        renamed = to_transformers(weights.tensors)
    except ValueError as error:
        raise BadInput(str(source), f"is no GroundingDINO: {error}", "give a published checkpoint") from None
    written = write_tensors(out / "model.safetensors", renamed, facts)
    for file in groundingdino.bert_files(bert):
        if file.name != "config.json":
            write_whole(out / file.name, file.read_bytes())
    _write_json(out / "preprocessor_config.json", _preprocessor_config(Preprocessing()))
    config = transformers_config(settings, read_json(bert / "config.json"))
    _write_json(out / "config.json", config)  # last: a folder without it is refused
    return _conversion(out, facts, len(renamed), written, weights)


def _preprocessor_config(preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "image_processor_type": "GroundingDinoImageProcessor",
        "size": {"shortest_edge": preprocessing.short_px, "longest_edge": preprocessing.long_px},
        "image_mean": preprocessing.mean,
        "image_std": preprocessing.std,
    }


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(document, indent=1, sort_keys=True) + "\n")


def _conversion(out: Path, facts: Mapping[str, str], tensors: int, written: int, weights: Weights) -> Conversion:
    return Conversion(
        str(out), facts["architecture"], facts["source_sha256"], tensors, written, weights.left_out
    )  # fmt: skip


def _check_out(source: Path, out: Path, to: str) -> None:
    if to not in FORMATS:
        raise BadInput(f"format {to!r}", "is not known", f"choose one of {', '.join(FORMATS)}")
    if to == "safetensors":
        if source.suffix not in PTH_SUFFIXES:
            raise BadInput(str(source), "is no .pth or .pt file", "give the published checkpoint")
        if out.suffix != ".safetensors":
            raise BadInput(str(out), "does not end in .safetensors", f"write {out.with_suffix('.safetensors').name}")
        if out.is_dir():
            raise BadInput(str(out), "is a folder", "give the name of a file")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(str(out), "exists and is no empty folder", "give another folder")
