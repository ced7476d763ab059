"""Which dataset a training learns from: known by what its tars hold, not by where it lies or when it was exported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.dataset.manifest import shards_digest
from pipeline.dataset.shards import read_manifest
from schemas.errors import RunConflict
from training.checkpoint import STATE_FILE, StateFormat, check_fields
from training.places import kept_place

#: The field of a training under way that has the digest; version 1 has none.
DIGEST_FIELD = "dataset_digest"


def dataset_digest(dataset: Path) -> str:
    """sha256 over the names, splits and hashes of a dataset's tars. Raises: BadInput where there is none."""
    return shards_digest(read_manifest(dataset).shards)


def check_same_dataset(out: Path, state: Mapping[str, Any], dataset: str, state_format: StateFormat) -> None:
    """Raises: RunConflict where the training under way in `out` learns from another dataset than `dataset`."""
    if state["schema"].endswith("/1"):
        before = str(state["config"].get("dataset"))
        if kept_place(before, out) != kept_place(dataset, out):
            fault = (
                f"was trained on {before} by an earlier version ({state['schema']}), which knew a dataset by its path"
            )
            raise RunConflict(str(out), f"{fault}; now it is {dataset}", "put it back there, or give another folder")
        return
    check_fields(out / "training" / STATE_FILE, state, {DIGEST_FIELD: str}, state_format.document_remedy)
    known, now = state[DIGEST_FIELD], dataset_digest(Path(dataset))
    if known != now:
        fault = f"was trained on a dataset of digest {known[:16]}, now it is {now[:16]} ({dataset})"
        raise RunConflict(str(out), fault, "give another folder, or that dataset")
