"""What an import brings along, in a process of its own: nobody pays for packages that he does not use."""

import subprocess
import sys

from runtime.checkout import CHECKOUT
from tests.tensor_shapes import CHECKED

MODEL_PACKAGES = ("torch", "torchvision", "transformers", "groundingdino", "segment_anything", "timm", "matplotlib")


def loaded(modules: list[str]) -> set[str]:
    """The names of all that these modules' import leaves loaded."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_the_command_line_imports_no_prefect_and_no_torch() -> None:
    assert not loaded(["flows.cli", "flows.commands"]) & {"prefect", "torch", "dask"}


def test_importing_imports_no_model_package() -> None:
    """Of the whole pipeline and the command line, adapters included: each imports its package when it is made.

    Left out are the halves of the `sam` adapter that it imports only then.
    """
    late = ("sam_checkpoint.py", "sam_forward.py")
    files = [file for file in (CHECKOUT / "pipeline").rglob("*.py") if file.name not in late]
    modules = [".".join(file.relative_to(CHECKOUT).with_suffix("").parts) for file in files]
    assert not loaded(["flows.cli", "flows.commands", *modules]) & set(MODEL_PACKAGES)


def test_the_files_of_an_editor_are_asked_for_without_torch() -> None:
    assert not loaded(["training.policy.files"]) & {*MODEL_PACKAGES, "diffusers"}


def test_the_parser_loads_no_heavy_package() -> None:
    assert not loaded(["pipeline.requests.instructions"]) & {"torch", "transformers", "httpx"}


def test_the_product_does_not_check_shapes() -> None:
    """No checker is loaded, and what would broadcast does."""
    code = f"""
import importlib
for name in {CHECKED}:
    importlib.import_module(name)
import torch
from training.reward.losses import masked_mean
masked_mean(torch.ones(4), torch.ones(1, dtype=torch.bool))
assert not hasattr(masked_mean, "__wrapped__")
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=120)
