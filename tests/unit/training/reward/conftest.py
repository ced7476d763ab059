"""What the tests of the reward's training share."""

from pathlib import Path

import pytest

from tests.cases.dataset_cases import of_few_rows


@pytest.fixture(scope="session")
def few_rows(built_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `built_run` with two edits of each of four requests to train on; never changed.

    A training reads and measures every row before its first step, and most tests of it need but a few steps.
    """
    return of_few_rows(built_run / "dataset", tmp_path_factory.mktemp("few") / "dataset", requests=4, edits=2)
