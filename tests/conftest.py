"""A home of its own for every test session, so that no test touches the real one; and shapes of tensors checked."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.studio.server import Studio, studio
from runtime.processes import free_port
from tests.tensor_shapes import check_shapes

check_shapes()


@pytest.fixture(autouse=True, scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """HOME in a temporary folder, and nothing of the user's settings in the environment."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "DASK_", "REGIONWISE_RUN"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("DO_NOT_TRACK", "1")
        yield home


@pytest.fixture(scope="session")
def running_studio(own_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One real Label Studio for all tests that need one, each with projects of its own; gone at the end."""
    with studio(tmp_path_factory.mktemp("studio"), port=free_port()) as running:
        yield running
    assert running.process.poll() is not None
