"""Files of models: that they are there, and what they hold. Nothing is fetched.

Weights come from safetensors, or from a published `.pth` through `torch.load(weights_only=True)`, which runs no code of
the file. What is missing or broken is one clear line that names the file and where to get it.
"""

import importlib
import json
import logging
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.memory import is_out_of_memory
from schemas.errors import BadInput, MissingPackage, OutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

PTH_SUFFIXES = (".pth", ".pt")
#: Where a published `.pth` keeps its weights; what else such a file holds (optimiser, epoch) is left out.
_WEIGHT_KEYS = ("model", "state_dict")
#: What of a folder makes a model's answers: weights, settings, vocabulary.
_MODEL_FILES = (".jinja", ".json", ".model", ".safetensors", ".txt")


@dataclass(frozen=True)
class Weights:
    """What a weight file holds. metadata: a safetensors file's. left_out: a `.pth`'s entries beside its weights."""

    tensors: dict[str, "Tensor"]
    metadata: dict[str, str]
    left_out: tuple[str, ...] = ()


def require_package(package: str, what: str, install: str) -> Any:
    """The module `package`. Raises: MissingPackage with the install line where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        missing = getattr(error, "name", None) or package
        raise MissingPackage(what, f"needs {missing}, which is not installed", install) from None


def go_offline() -> None:
    """Tells this process's hub clients to fetch nothing; beside it every load names local files only."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"


def require_file(path: Path, what: str, page: str) -> Path:
    """`path`. Raises: BadInput, naming the file and the download page, where there is no such file."""
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(str(path), f"{fault}; it should be {what}", f"download it from {page}; nothing is fetched here")
    return path


def model_files(folder: Path) -> list[Path]:
    """The files of a model's folder that make its answers."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _MODEL_FILES)


def read_weights(path: Path) -> Weights:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file.

    Raises: BadInput where it is damaged, of another kind, or a pickle that holds more than tensors; OutOfMemory.
    """
    if path.suffix in PTH_SUFFIXES:
        return _read_pth(path)
    if path.suffix != ".safetensors":
        raise BadInput(str(path), "is no .safetensors, .pth or .pt file", "give the checkpoint itself")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return Weights({name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {}))
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        _raise_if_memory(error, path)
        raise BadInput(str(path), f"is no whole safetensors file: {error}", "download or convert it anew") from None


def _read_pth(path: Path) -> Weights:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about old storages: the tensors are the same
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from None
    except Exception as error:  # a broken pickle makes the reader raise whatever its bytes lead to
        _raise_if_memory(error, path)
        raise BadInput(str(path), f"is no whole checkpoint: {_first_line(error)}", "download it anew") from None
    if not isinstance(document, Mapping):
        raise BadInput(str(path), f"holds a {type(document).__name__}, no named tensors", "give a state_dict")
    inner = next((key for key in _WEIGHT_KEYS if isinstance(document.get(key), Mapping)), None)
    left_out = tuple(sorted(str(key) for key in document if key != inner)) if inner else ()
    tensors = document[inner] if inner else document
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            fault = f"holds more than tensors: {str(name)[:80]!r} is a {type(tensor).__name__}"
            raise BadInput(str(path), fault, "give a file of weights alone (a state_dict)")
    if not tensors:
        raise BadInput(str(path), "holds no tensor", "download it anew")
    return Weights({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, {}, left_out)


def _refused(path: Path, message: str) -> BadInput:
    """The refusal of a pickle: what it wanted to make besides tensors, or that it is none."""
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted:
        fault = f"is a pickle that holds more than tensors ({wanted[1]}), which could run code"
        return BadInput(str(path), fault, "nothing of it was run; save its state_dict alone, or get it as safetensors")
    return BadInput(
        str(path), "is no whole checkpoint, or holds more than tensors", "nothing of it was run; download it anew"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_fits(path: Path, wanted: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"], what: str) -> None:
    """Raises: BadInput where `found` are not exactly the weights `wanted`: how many differ, and the first of them."""
    differ = sorted(
        name
        for name in {*wanted, *found}
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if differ:
        here, there = (tensors.get(differ[0]) for tensors in (found, wanted))
        shapes = ["missing" if tensor is None else str(list(tensor.shape)) for tensor in (here, there)]
        raise BadInput(
            str(path),
            f"is no {what}: {len(differ)} weights differ, first {differ[0]} ({shapes[0]}, expected {shapes[1]})",
            "give the checkpoint of this architecture, or its config beside it",
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises: BadInput, naming the file."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", "download it anew") from None
    if not isinstance(document, dict):
        raise BadInput(str(path), "holds no JSON object", "download it anew")
    return document


def check_folder(folder: Path, model_types: Sequence[str], page: str) -> dict[str, Any]:
    """The `config.json` of a transformers model's folder.

    Raises: BadInput, naming the file and the download page, where the folder, its config or its weights are missing,
    or where it is another kind of model.
    """
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise BadInput(str(folder), fault, f"download the folder from {page}; nothing is fetched here")
    config = read_json(require_file(folder / "config.json", "the model's settings", page))
    found = str(config.get("model_type"))[:80]
    if found not in model_types:
        remedy = f"give a folder from {page}"
        raise BadInput(str(folder), f"holds a model of type {found!r}, expected {' or '.join(model_types)}", remedy)
    if not any(folder.glob("*.safetensors")):
        require_file(folder / "model.safetensors", "the model's weights", page)
    return config


def folder_files(folder: Path, model_types: Sequence[str], page: str) -> list[Path]:
    """The files of a transformers model's folder that make its answers. Raises: BadInput, as `check_folder`."""
    check_folder(folder, model_types, page)
    return model_files(folder)


def load_folder(model_class: Any, folder: Path) -> Any:
    """A transformers model from a local folder, in fp32 and for inference.

    Raises: BadInput where its weights are damaged, missing in part, or of other shapes; OutOfMemory.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        with quiet_transformers():  # its report of what does not fit: here that is an error
            model, info = model_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype="float32",
            )
    except Exception as error:  # what transformers raises for a broken folder is no fixed set
        _raise_if_memory(error, folder)
        fault = f"holds no model that can be loaded: {_first_line(error)}"
        raise BadInput(str(folder), fault, "download it anew") from None
    missing = sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])})
    if missing:
        fault = f"has not the weights of its {model_class.__name__}: {len(missing)} differ, first {missing[0]}"
        raise BadInput(str(folder), fault, "download it anew, or give the folder of this architecture")
    return model.eval().requires_grad_(False)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own log lines below an error."""
    log = logging.getLogger("transformers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _raise_if_memory(error: Exception, path: Path) -> None:
    """Raises: OutOfMemory, naming the checkpoint, where it is memory that lacks: downloading it anew would not help."""
    if is_out_of_memory(error):
        raise OutOfMemory(str(path), "does not fit into memory", "free some, or take a smaller model") from error


def load_local(loader: Any, folder: Path, what: str, page: str) -> Any:
    """A tokenizer or image processor from a local folder. Raises: BadInput, naming the folder and the download page."""
    try:
        return loader.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # no fixed set here either
        _raise_if_memory(error, folder)
        fault = f"holds no {what} that can be loaded: {_first_line(error)}"
        raise BadInput(str(folder), fault, f"download its files from {page}") from None
