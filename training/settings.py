"""The settings of every training: a TOML file, and NAME=VALUE on a command line."""

import json
import tomllib
from pathlib import Path
from typing import Any

from schemas.errors import BadInput


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
