"""A policy's training on a GPU: the same samples and gradients as on the CPU, and its log-probs in bfloat16."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.cases.builds import PLAIN_SCENES, build
from tests.cases.policy_loop_cases import random_pipeline, small

ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(dataset of plain scenes, tiny policy with random weights)."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    folder = tmp_path_factory.mktemp("given")
    random_pipeline().save_pretrained(str(folder / "policy"))
    build(folder / "run", PLAIN_SCENES)
    return folder / "run/dataset", folder / "policy"


def trained(given: tuple[Path, Path], out: Path, environment: dict[str, str], **changes: Any) -> dict[str, Any]:
    """Runs a training as a process, on one GPU unless the environment hides it; its `training/state.json`."""
    config = small(*given, **changes).model_dump(mode="json")
    command = [sys.executable, "-m", "training.policy.train", "--out", str(out)]
    for name, value in config.items():
        command += ["--set", f"{name}={json.dumps(value)}"] if value is not None else []
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0"} | environment,
    )
    assert answer.returncode == 0, answer.stderr[-3_000:]
    return dict(json.loads((out / "training/state.json").read_bytes()))


def gradient(out: Path) -> torch.Tensor:
    """The first moments of all parameters in a row: after one update a tenth of the gradient."""
    tensors = load_file(out / "training/state-000001.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors) if name.endswith("/exp_avg")])


def test_an_update_on_a_gpu_is_that_of_the_cpu(given: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"updates": 1, "beta_edit": 0.1, "beta_background": 0.1}
    on_cpu = trained(given, tmp_path / "cpu", ON_CPU, **changes)
    on_gpu = trained(given, tmp_path / "gpu", {}, **changes)
    (ours,), (theirs,) = on_cpu["history"], on_gpu["history"]
    for name in ("reward/region", "gradient_norm", "missing_share", "dropped_regions", "recomputed"):
        assert theirs[name] == pytest.approx(ours[name], rel=0.05, abs=1e-3), name
    assert theirs["log_prob_gap"] < 1e-4
    gradients = [gradient(tmp_path / device) for device in ("cpu", "gpu")]
    assert float(gradients[0].abs().max()) > 0
    # Convolutions of the VAE round to ten bits on a GPU, so a pixel, and with it a reward, may differ a little.
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.95


def test_in_bfloat16_the_gap_of_the_log_probs_is_logged_and_acted_upon(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    for checkpointing in (False, True):
        out = tmp_path / str(checkpointing)
        changes = {"updates": 2, "dtype": "bfloat16", "checkpointing": checkpointing, "train_batch": 2}
        for row in trained(given, out, {}, **changes)["history"]:
            print(f"\nbfloat16, checkpointing {checkpointing}: log_prob_gap {row['log_prob_gap']:.2e}")
            assert row["recomputed"] == (row["log_prob_gap"] > small(*given).clip / 10)
            assert 0 < row["gradient_norm"] < float("inf")
        kept = load_file(out / "adapter.safetensors")
        assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
        assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())


def test_a_training_on_a_gpu_goes_on_where_it_was_stopped(given: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"checkpoint_every": 1}
    trained(given, tmp_path / "whole", {}, updates=2, **changes)
    for updates in (1, 2):
        state = trained(given, tmp_path / "parts", {}, updates=updates, **changes)
        assert len(state["history"]) == updates
    whole, parts = (load_file(tmp_path / name / "adapter.safetensors") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-4, rtol=1e-3)
