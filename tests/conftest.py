"""What every test has: one thread, checked shapes, a home of its own, and a process put back as it was."""

import os

# Before NumPy, OpenCV or torch is imported, here and in every process that a test starts: two workers of two threads
# each are slower than two of one, and a sum over one thread is the same everywhere.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import atexit
import gc
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.tensor_shapes import check_shapes

if TYPE_CHECKING:
    from annotation.studio.server import Studio

check_shapes()

# `unit` draws the same examples each time: a failure belongs to the change that is tested. `slow` looks for new ones.
# How long an example takes says how busy the machine is.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("unit", max_examples=50, derandomize=True, **UNTIMED)
settings.register_profile("slow", max_examples=1_000, print_blob=True, **UNTIMED)
settings.load_profile("unit")


#: Files of minutes, the longest first.
LONGEST = (
    "test_prefect.py",
    "test_annotate.py",
    "test_annotator.py",
    "test_policy_processes.py",
    "test_train_policy.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays to the end: a collector that looks through all of it again and again takes a fifth of the
    imports' time and 5% of all others."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        atexit.register(_end_of_worker if "PYTEST_XDIST_WORKER" in os.environ else gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: one that begins last has all others wait for it."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def _end_of_worker() -> None:
    """The interpreter takes what is frozen apart no more, which saves seconds and makes nanobind speak of leaks."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


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


@pytest.fixture(autouse=True)
def process_as_it_was(own_home: Path) -> Iterator[None]:
    """Puts back the environment and torch's threads and determinism, which a training sets for its whole process."""
    environment = dict(os.environ)
    reset_torch()  # a fixture of the module may have trained
    yield
    reset_torch()
    if os.environ != environment:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def reset_torch() -> None:
    """One thread and no determinism, where torch has been imported at all."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def built_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small build of procedural scenes; never changed, take `small_run` for that."""
    from tests.cases.builds import SMALL, build, made_once

    return made_once(tmp_path_factory, "small", lambda run: build(run, SMALL))


@pytest.fixture
def small_run(built_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to damage."""
    return shutil.copytree(built_run, tmp_path / "small")


@pytest.fixture(scope="session")
def few_rows(built_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `built_run` with two edits of each of four requests to train on; never changed.

    A training reads and measures every row before its first step, and most tests of it need but a few steps.
    """
    from tests.cases.builds import made_once
    from tests.cases.dataset_cases import of_few_rows

    return made_once(
        tmp_path_factory, "few", lambda folder: of_few_rows(built_run / "dataset", folder, requests=4, edits=2)
    )


@pytest.fixture(scope="session")
def plain_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of a build of 16 plain scenes, half of them held out; never changed."""
    from tests.cases.builds import PLAIN_SCENES, build, made_once

    return made_once(tmp_path_factory, "plain", lambda run: build(run, PLAIN_SCENES)) / "dataset"


@pytest.fixture(scope="session")
def random_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shallow tiny policy with random weights; never changed."""
    from tests.cases.builds import made_once
    from tests.cases.policy_loop_cases import random_pipeline

    def write(folder: Path) -> None:
        random_pipeline(single_layers=1).save_pretrained(str(folder))

    return made_once(tmp_path_factory, "tiny", write)


@pytest.fixture(scope="session")
def running_studio(own_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Studio"]:
    """One real Label Studio for all tests that need one, each with projects of its own; gone at the end."""
    from annotation.studio.server import studio
    from runtime.processes import free_port

    with studio(tmp_path_factory.mktemp("studio"), port=free_port()) as running:
        yield running
    assert running.process.poll() is not None
