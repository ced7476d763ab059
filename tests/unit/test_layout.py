"""The import names are the folder names: each resolves inside the checkout, and nobody else provides it."""

import importlib
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from runtime.checkout import CHECKOUT

NAMES = ("pipeline", "flows", "annotation", "runtime", "schemas", "training", "benchmarks")


@pytest.mark.parametrize("name", NAMES)
def test_name_resolves_in_the_checkout(name: str) -> None:
    assert Path(str(importlib.import_module(name).__file__)).parent == CHECKOUT / name


def test_no_other_distribution_provides_a_name() -> None:
    provided = packages_distributions()
    others = {name: provided.get(name, []) for name in NAMES}
    assert {name: found for name, found in others.items() if set(found) - {"regionwise"}} == {}


def test_no_flow_file_is_named_like_a_package_or_a_standard_module() -> None:
    stems = {path.stem for path in (CHECKOUT / "flows").rglob("*.py")}
    assert not stems & ({*NAMES} | set(sys.stdlib_module_names))


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for name in NAMES for path in (CHECKOUT / name).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
