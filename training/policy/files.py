"""The files of a policy, and the hash that says which one it is; nothing is loaded, and no torch is imported.

A base policy is a FLUX.2 folder: model_index.json and a folder for each part. A trained policy is policy.json, an
adapter and the base policy that policy.json names.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.models.checkpoint import model_files
from pipeline.models.revisions import file_sha256
from runtime.specs import parse_spec
from schemas.errors import BadInput
from schemas.record import short_hash
from training.places import found_place, of_place

POLICIES = ("tiny", "klein")
#: The weights that come with the product.
WEIGHTS = Path(__file__).resolve().parent / "tiny" / "weights"
INDEX = "model_index.json"


def base_folder(spec: str) -> Path:
    """Where the policy of a spec lies. Raises: BadInput for a spec that is not known or misses its place."""
    name, place = parse_spec(spec, POLICIES, "policy")
    if place is None and name == "klein":
        raise BadInput("policy 'klein'", "does not say where it is", "write klein:FOLDER")
    return Path(place) if place else WEIGHTS


def base_files(folder: Path) -> list[Path]:
    """The files of a base policy that make its answers: its index, and settings, weights and words of its parts.

    Raises: BadInput where there is none.
    """
    if not (folder / INDEX).is_file():
        raise BadInput(f"policy {folder}", f"holds no {INDEX}", "give the folder of a FLUX.2-klein checkpoint")
    parts = sorted(part for part in folder.iterdir() if part.is_dir())
    return [folder / INDEX, *(path for part in parts for path in model_files(part))]


def fingerprint(folder: Path) -> str:
    """Which base policy it is: `sha256:` and 16 hex digits over names and bytes of its files. Raises: BadInput."""
    files = base_files(folder)
    return f"sha256:{short_hash([[path.relative_to(folder).as_posix(), file_sha256(path)] for path in files])}"


def earlier_fingerprint(folder: Path) -> str:
    """What earlier versions wrote down: 16 hex digits over names and sizes of the weights, and their first MiB."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(1 << 20))
    return digest.hexdigest()[:16]


def check_base(trained: Path, document: dict[str, Any], spec: str) -> None:
    """Whether the base policy of `spec` is the one that a policy.json (`document`, in the folder `trained`) names.

    A policy.json of an earlier version is compared by that version's hash. Raises: BadInput, naming both revisions.
    """
    said, folder = str(document.get("revision"))[:40], base_folder(spec)
    now = fingerprint(folder)
    if said != now and said != earlier_fingerprint(folder):
        fault = f"was trained on revision {said} of {spec}, which is now {now}"
        raise BadInput(str(trained), fault, "put that one back, or train it anew")


def policy_files(place: str | None) -> Iterable[Path]:
    """The files of the editor `policy:FOLDER`: policy.json, adapter, and those of the base policy.

    Raises: BadInput where there is none, where one is missing or damaged, and where the base is another one.
    """
    if place is None:
        raise BadInput("editor policy", "does not say where it is", "write policy:RUN/policy/NAME")
    document, adapter = Path(place) / "policy.json", Path(place) / "adapter.safetensors"
    spec, said = _base_spec(document)
    if not adapter.is_file():
        raise BadInput(str(adapter), "does not exist", "train the policy anew")
    check_base(Path(place), said, spec)
    return [document, adapter, *base_files(base_folder(spec))]


def _base_spec(path: Path) -> tuple[str, dict[str, Any]]:
    remedy = "train the policy, or give the folder of one"
    try:
        document = json.loads(path.read_bytes())
        spec = document["config"]["policy"]
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", remedy) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(str(path), f"names no base policy: {type(error).__name__}", remedy) from None
    if not isinstance(spec, str):
        raise BadInput(str(path), f"names no base policy: {str(spec)[:40]}", remedy)
    return of_place(found_place, spec, path.parent, POLICIES), document
