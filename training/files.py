"""What every training reads: its settings, documents with a schema, and tensors. All of it may come from outside."""

import json
import tomllib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from schemas.errors import BadInput, NewerSchema


def read_toml(path: Path | None) -> dict[str, Any]:
    """The settings in a TOML file, none for None. Raises: BadInput, naming the file."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", "give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", "mend the file") from None


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE of a command line; the value as JSON where it is such, else as it stands. Raises: BadInput."""
    name, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"--set {text!r}", "has no `=`", "write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def read_document(path: Path, schema: str, version: int, remedy: str) -> dict[str, Any]:
    """A JSON file of `schema`. Raises: BadInput where there is none, or another; NewerSchema for a later one."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", remedy) from None
    except (ValueError, OSError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", remedy) from None
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
