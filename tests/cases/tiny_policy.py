"""A tiny policy with random weights, and folders as a training writes them: what they edit means nothing."""

import json
from pathlib import Path

import torch

from pipeline.build import run_parts
from pipeline.config import BuildConfig, SplitShares
from pipeline.dataset.export import export_dataset
from pipeline.prepare import prepare_run
from pipeline.run.workers import workers
from runtime.locks import locked
from tests.cases.policy_loop_cases import narrow_vae
from training.checkpoint import write_json, write_tensors
from training.policy.config import PolicyConfig
from training.policy.registry import make_policy
from training.policy.tiny.model import as_pipeline, new_transformer
from training.policy.tiny.text import new_text_encoder, new_tokenizer

PLAIN = {"scene_textures": ("plain",), "scene_size_px": 64, "size_px": 64, "k": 1}
#: Settings of a training that takes seconds.
QUICK = {
    "updates": 2, "requests": 2, "group": 2, "sampling_steps": 3, "evaluation_steps": 2, "trained_steps": [0],
    "evaluation_requests": 2, "lora_rank": 2, "lora_alpha": 4, "threads": 1,
}  # fmt: skip


def random_tiny(folder: Path, seed: int = 0) -> Path:
    """A FLUX.2 pipeline of the tiny policy's architecture, untrained: the spec `tiny:FOLDER` reads it."""
    torch.manual_seed(seed)
    tokenizer = new_tokenizer(seed=0, count=50)
    parts = narrow_vae(), new_text_encoder(tokenizer).eval(), tokenizer, new_transformer().eval()
    as_pipeline(*parts).save_pretrained(str(folder))
    return folder


def random_policy(folder: Path, base: Path, seed: int = 0) -> Path:
    """A folder as `regionwise train-policy` writes it: a random adapter on the policy of `base`."""
    config = PolicyConfig.model_validate({"dataset": "none", "policy": f"tiny:{base}", **QUICK})
    policy = make_policy(config.policy, rank=config.lora_rank, alpha=config.lora_alpha)
    torch.manual_seed(seed)
    adapter = {name: 0.05 * torch.randn_like(parameter) for name, parameter in policy.trained().items()}
    write_tensors(folder / "adapter.safetensors", adapter)
    document = {"schema": "policy/1", "policy": config.policy, "revision": policy.revision, "synthetic": True}
    write_json(folder / "policy.json", document | {"updates": 2, "config": config.model_dump(mode="json")})
    return folder


def plain_run(run: Path) -> Path:
    """A finished build of sixteen plain scenes of 64 px, a quarter of them held out."""
    shares = SplitShares(train=0.5, validation=0.25, test=0.25)
    config = BuildConfig.model_validate({"scenes": 16, "part_requests": 8, "splits": shares, **PLAIN})
    with locked(run), workers(1) as executor:
        run_parts(run, prepare_run(run, config).n_parts, executor)
        export_dataset(run, executor)
    return run


def quick(base: Path, **changes: object) -> tuple[str, ...]:
    """`QUICK` as settings of a command, with the policy of `base`."""
    settings: dict[str, object] = {"policy": f"tiny:{base}", **QUICK, **changes}
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())
