"""What a training leaves behind is a LoRA to diffusers: its own loader puts it into a fresh pipeline."""

from pathlib import Path

import pytest
import torch
from diffusers import Flux2KleinPipeline
from peft import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.cases.policy_loop_cases import boxed, photo_case, small, tiny_policy
from training.policy.flux2 import ADAPTER, Flux2Policy, load_pipeline
from training.policy.lora_file import LORA_FILE, add_lora
from training.policy.results import write_policy
from training.policy.tiny.model import TINY

CASE = photo_case(64, 64, boxed(64, 64, (8, 8, 40, 40)))
TRIAL = {"update": 0, "requests": [{"request": "a", "rewards": [0.5], "phis": [0.5], "background": 0.5}], "signals": {}}
#: A trained folder at its end, all but the adapter.
KEPT = {"update": 1, "stopped": "", "history": [], "trials": [TRIAL]}


@pytest.fixture(scope="module")
def policy(random_policy: Path) -> Flux2Policy:
    """Rank 4, alpha 8: half the strength where the alpha is lost."""
    return tiny_policy(random_policy)


@pytest.fixture(scope="module")
def trained(policy: Flux2Policy, random_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    config = small(Path("none"), random_policy, lora_rank=policy.lora.rank, lora_alpha=policy.lora.alpha)
    write_policy(folder, config, policy, {name: p.detach() for name, p in policy.trained().items()}, KEPT)
    return folder


def picture(pipeline: Flux2KleinPipeline) -> Tensor:
    """The pipeline's edit of one case from fixed noise: (64, 64, 3) in [0, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        image=Image.fromarray(CASE.source),
        prompt=CASE.request.instruction,
        num_inference_steps=3,
        guidance_scale=TINY.guidance,
        generator=torch.Generator().manual_seed(0),
        max_sequence_length=TINY.text_tokens,
        text_encoder_out_layers=TINY.text_layers,
        output_type="np",
    )
    return torch.as_tensor(made.images[0])


def test_diffusers_own_loader_makes_the_policys_picture(
    policy: Flux2Policy, trained: Path, random_policy: Path
) -> None:
    ours, fresh, bare = (load_pipeline(random_policy) for _ in range(3))
    ours.transformer = policy.transformer
    fresh.load_lora_weights(str(trained))
    assert float((picture(ours) - picture(bare)).abs().max()) > 0.01
    torch.testing.assert_close(picture(fresh), picture(ours), atol=1e-5, rtol=0)


def test_its_tensors_are_those_that_diffusers_would_have_saved(
    policy: Flux2Policy, trained: Path, tmp_path: Path
) -> None:
    layers = get_peft_model_state_dict(policy.transformer, adapter_name=ADAPTER)
    Flux2KleinPipeline.save_lora_weights(str(tmp_path), transformer_lora_layers=layers)
    ours, theirs = load_file(trained / LORA_FILE), load_file(tmp_path / LORA_FILE)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_policy_that_was_trained_without_the_file_gets_the_same(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter.safetensors").write_bytes((trained / "adapter.safetensors").read_bytes())
    for _ in range(2):
        add_lora(tmp_path, 4, 8)
    assert (tmp_path / LORA_FILE).read_bytes() == (trained / LORA_FILE).read_bytes()
