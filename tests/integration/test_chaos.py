"""A few pairs of `make chaos-local`: real processes, a real small disk; `test_annotate` has one with Label Studio."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest

from tests.chaos.command import Command
from tests.chaos.commands import export, once
from tests.chaos.strikes import STRIKES, unharmed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what commands start from is made."""
    return tmp_path_factory.mktemp("chaos").resolve()


def struck_once(folder: Path) -> Command:
    """An export in one process, for its start is most of its work."""
    return replace(export(partial(once, folder), workers=1), moments=(2,))


@cache
def expected(folder: Path) -> object:
    """What an export makes that nothing befalls."""
    return unharmed(struck_once(folder), folder / "unharmed")


@pytest.mark.parametrize("strike", ["kill -9", "full disk", "second process"])
def test_an_export_that_is_struck_makes_the_same_in_the_end(strike: str, folder: Path) -> None:
    what, made = STRIKES[strike](struck_once(folder), folder / strike)
    print(what)
    assert made == expected(folder)
