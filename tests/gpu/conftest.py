"""What is checked here runs on a GPU; where torch sees none, each check is skipped and says so."""

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
