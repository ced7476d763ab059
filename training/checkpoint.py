"""Models and trainings under way as files, for every trainer: safetensors for numbers, JSON for what they mean.

A training under way is two files in a folder of its own:

state.json                  settings, steps done, what was logged; it names the tensors, and is written last
state-<step>.safetensors    <group>/<name> for weights and their average, moment/<index>/<name> for the optimiser's

Everything is written beside its place and renamed, tensors before the JSON that names them: a full disk or a kill
leaves the checkpoint before as the last one. Nothing is unpickled. All that is read may come from outside, so it is
checked whole before any of it is used: schema, fields, settings, and of every tensor its name, shape and finiteness.
What tensors and fields a trainer keeps is its own business (`training.*.checkpoint`).
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from runtime.disk import FULL, MAKE_ROOM
from runtime.files import write_whole
from schemas.errors import BadInput, NewerSchema, NoRoom, RegionwiseError, RunConflict

#: Of a file that may grow no more: the disk is full, or a limit of the process is reached.
NO_ROOM = (*FULL, errno.EFBIG)

_GOES_ON = "it goes on from the last checkpoint"

Shape = tuple[int, ...]
STATE_FILE = "state.json"
#: What AdamW keeps of a parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class CheckpointFailed(RegionwiseError):
    """A checkpoint could not be written; the one before it is whole."""


class NoRoomForCheckpoint(CheckpointFailed, NoRoom):
    """The disk is full."""


@dataclass(frozen=True)
class StateFormat:
    """How a trainer keeps a training under way.

    schema, version: of state.json. counter: its field of steps done; digits: of the counter in a file's name. fields:
    the trainer's other fields and their types, as JSON has them. mismatch: what is said of tensors that do not fit.
    document_remedy, remedy: what to do about a bad state.json, and about bad tensors. free_settings: those that may
    change between the parts of one training. sort_keys: whether state.json has its keys in alphabetical order.
    """

    schema: str
    version: int
    counter: str
    digits: int
    fields: Mapping[str, type]
    mismatch: str
    document_remedy: str
    remedy: str
    free_settings: frozenset[str] = frozenset()
    sort_keys: bool = True


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole or not at all. Raises: CheckpointFailed where the disk does not take it."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, save(plain, metadata=metadata))


def write_json(path: Path, document: Mapping[str, Any], *, sort_keys: bool = True) -> None:
    """Writes a JSON file, whole or not at all. Raises: CheckpointFailed."""
    write_file(path, json.dumps(document, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n")


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file of a model's folder, whole or not at all. Raises: CheckpointFailed."""
    with reported_as_failed(path):
        write_whole(path, content)


@contextmanager
def reported_as_failed(path: Path) -> Iterator[None]:
    """Around what writes a file of a model's folder. Raises: CheckpointFailed where the disk does not take it."""
    try:
        yield
    except NoRoom as error:
        raise NoRoomForCheckpoint(str(path), error.fault, f"{MAKE_ROOM}: {_GOES_ON}") from None
    except OSError as error:
        fault = f"cannot be written: {error.strerror or error}"
        if error.errno in NO_ROOM:
            raise NoRoomForCheckpoint(str(path), fault, f"{MAKE_ROOM}: {_GOES_ON}") from None
        raise CheckpointFailed(str(path), fault, f"make it writable and start again: {_GOES_ON}") from None


def read_json(path: Path, remedy: str) -> Any:
    """What a JSON file holds. Raises: BadInput where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", remedy) from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", remedy) from None


def read_document(path: Path, schema: str, version: int, remedy: str) -> dict[str, Any]:
    """A JSON file of `schema`. Raises: BadInput where there is none, or another; NewerSchema for a later one."""
    document = read_json(path, remedy)
    name, _, found = str(document.get("schema") if isinstance(document, dict) else "none").partition("/")
    if name != schema or not found.isdecimal():
        raise BadInput(str(path), f"says schema {name[:80]!r}, expected {schema}/{version}", remedy)
    if int(found) > version:
        raise NewerSchema(str(path), f"has schema {name}/{found}; this version reads up to {schema}/{version}")
    return dict(document)


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: BadInput where it is missing or damaged."""
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", remedy) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(str(path), f"is no safetensors file: {error}", remedy) from None


def write_state(
    folder: Path,
    state_format: StateFormat,
    config: Mapping[str, Any],
    fields: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None,
) -> None:
    """Writes a checkpoint: tensors first, then the JSON that names them; older tensors go.

    config: settings as they are kept. fields: counter and the trainer's own, in the order of the file. tensors: None
    where there is nothing to go on with.
    Raises: CheckpointFailed.
    """
    name = f"state-{fields[state_format.counter]:0{state_format.digits}d}.safetensors" if tensors is not None else None
    if name and tensors is not None:
        write_tensors(folder / name, tensors)
    head = {"schema": f"{state_format.schema}/{state_format.version}", "config": config}
    document = {**head, **fields, "tensors": name}
    write_json(folder / STATE_FILE, document, sort_keys=state_format.sort_keys)
    for older in folder.glob("state-*.safetensors"):
        if older.name != name:
            older.unlink()


def read_state(folder: Path, state_format: StateFormat) -> dict[str, Any] | None:
    """The state.json of a training under way, None where there is none.

    `tensors` is None where the training is finished and has nothing to go on with.
    Raises: BadInput for a damaged one; NewerSchema.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    state = read_document(path, state_format.schema, state_format.version, state_format.document_remedy)
    fields = {"config": dict, state_format.counter: int, **state_format.fields}
    check_fields(path, state, fields, state_format.document_remedy)
    count, name = state[state_format.counter], state.get("tensors")
    if name is None and state.get("finished") is True:
        return state
    digits = re.fullmatch(r"state-([0-9]{1,12})\.safetensors", name) if isinstance(name, str) else None
    if digits is None or int(digits[1]) != count:
        fault = f"names no tensors of {state_format.counter} {count}: {str(name)[:80]!r}"
        raise BadInput(str(path), fault, state_format.document_remedy)
    return state


def check_fields(path: Path, document: Mapping[str, Any], fields: Mapping[str, type], remedy: str) -> None:
    """Raises: BadInput, naming the first field that is missing, of another type, or a number below 0."""
    for name, wanted in fields.items():
        found = document.get(name)
        if type(found) is not wanted:
            what = f"is {type(found).__name__}, expected {wanted.__name__}" if name in document else "is missing"
            raise BadInput(str(path), f"is damaged: field {name} {what}", remedy)
        if wanted is int and document[name] < 0:
            raise BadInput(str(path), f"is damaged: field {name} is {found}", remedy)


def check_same_config(path: Path, before: Mapping[str, Any], now: Mapping[str, Any], state_format: StateFormat) -> None:
    """Raises: RunConflict, naming the first setting in which a training under way differs from those of now."""
    for name in sorted({*before, *now} - state_format.free_settings):
        if before.get(name) != now.get(name):
            fault = f"was trained with {name} = {before.get(name)!r}, now it is {now.get(name)!r}"
            raise RunConflict(str(path), fault, "give another folder, or the same settings")


def state_tensors(groups: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: those of each group, and the optimiser's moments."""
    tensors = _by_full_name(groups)
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment/{index}/{name}": tensor for name, tensor in moments.items()}
    return tensors


def restore_tensors(
    folder: Path,
    state_format: StateFormat,
    state: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Puts the tensors of a checkpoint back into `groups` and the optimiser, all of them or none.

    Raises: BadInput, naming the first that is missing, too many, of another shape or not finite.
    """
    path = folder / state["tensors"]
    found = read_tensors(path, state_format.remedy)
    places = _by_full_name(groups)
    moments = {name: tensor for name, tensor in found.items() if name.startswith("moment/")}
    weights = {name: tensor for name, tensor in found.items() if name not in moments}
    check_tensors(path, _shapes(places), weights, state_format.mismatch, state_format.remedy)
    expected = _moment_shapes(optimizer) if state[state_format.counter] > 0 else {}
    check_tensors(path, expected, moments, "lacks moments of the optimiser or has others", state_format.remedy)
    _copy(places, weights)
    by_index: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in moments.items():
        _, index, name = full_name.split("/")
        by_index.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def put_tensors(
    path: Path,
    places: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    mismatch: str,
    remedy: str,
    remedy_not_finite: str | None = None,
) -> None:
    """Copies tensors of a file into their places once all fit; numbers of half precision, too.

    Raises: BadInput as `check_tensors`; nothing is copied then.
    """
    check_tensors(path, _shapes(places), tensors, mismatch, remedy, remedy_not_finite)
    _copy(places, tensors)


def check_tensors(
    path: Path,
    expected: Mapping[str, Shape],
    tensors: Mapping[str, Tensor],
    mismatch: str,
    remedy: str,
    remedy_not_finite: str | None = None,
) -> None:
    """Raises: BadInput, naming the first tensor that is missing, too many, of another shape or not finite."""
    for name in sorted({*expected, *tensors}):
        found, wanted = tensors.get(name), expected.get(name)
        if found is None or wanted is None or tuple(found.shape) != wanted:
            shape = None if found is None else tuple(found.shape)
            raise BadInput(str(path), f"{mismatch}: {name} is {shape}, expected {wanted}", remedy)
        if not bool(torch.isfinite(found).all()):
            raise BadInput(str(path), f"holds numbers in {name} that are not finite", remedy_not_finite or remedy)


def _by_full_name(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _moment_shapes(optimizer: torch.optim.Optimizer) -> dict[str, Shape]:
    """What AdamW keeps of its parameters, by name, once it has stepped."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"moment/{index}/{name}": () if name == "step" else tuple(parameter.shape)
        for index, parameter in enumerate(parameters)
        for name in _MOMENTS
    }


@torch.no_grad()
def _copy(places: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, place in places.items():
        place.copy_(tensors[name])
