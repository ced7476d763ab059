"""An untrained tiny policy and a small dataset of plain scenes for the tests of the policy's loop. Nothing is learnt in
either: the weights are random, so the edits are noise."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.region import region_id
from schemas.request import EditRequest, Source, Target
from training.policy import flux2, results, train
from training.policy.config import PolicyConfig
from training.policy.data import load_cases
from training.policy.edit_cases import PolicyCase, plain_case
from training.policy.flux2 import Flux2Policy
from training.policy.registry import make_policy
from training.policy.rewards import RegionRewards
from training.policy.tiny.model import as_pipeline, new_transformer
from training.policy.tiny.pretrain import measure_token_scale
from training.policy.tiny.text import new_text_encoder, new_tokenizer
from training.policy.tiny.vae import new_vae, scene_pixels

#: The side of the tests' scenes: 4 x 4 tokens.
SIDE_PX = 64


def random_pipeline(single_layers: int = 3) -> Flux2KleinPipeline:
    """The tiny policy as it is before any training, its VAE narrower; with one single layer its transformer is not so
    deep: for tests of what goes on around it."""
    torch.manual_seed(0)
    vae, tokenizer = narrow_vae(), new_tokenizer(0, 30)
    measure_token_scale(vae, scene_pixels(0, 0, 2))
    transformer = Flux2Transformer2DModel.from_config({**new_transformer().config, "num_single_layers": single_layers})
    return as_pipeline(vae, new_text_encoder(tokenizer), tokenizer, transformer)


def narrow_vae() -> AutoencoderKLFlux2:
    """An untrained VAE of the tiny policy's layers with fewer channels: tests wait for little else."""
    made: AutoencoderKLFlux2 = AutoencoderKLFlux2.from_config(
        {**new_vae().config, "block_out_channels": (8, 8, 16, 16)}
    )
    return made.eval()


@contextmanager
def pipelines_read_once() -> Iterator[None]:
    """While it is open the folder of a pipeline is read once; later ones get a transformer of their own, no more."""
    pipelines = cache(flux2.load_pipeline)

    def load(*given: Any) -> Flux2KleinPipeline:
        made = copy(pipelines(*given))
        made.transformer = deepcopy(made.transformer)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flux2, "load_pipeline", load)
        yield


@contextmanager
def policies_made_once(*where: Any) -> Iterator[None]:
    """While it is open these modules' `make_policy` makes a policy once, and from then on copies what training changes.

    A copy's adapter is the one that the policy was made with.
    """
    policies = cache(make_policy)

    def made(spec: str, **settings: Any) -> Flux2Policy:
        policy = copy(policies(spec, **settings))
        policy.transformer = deepcopy(policy.transformer)
        return policy

    with pytest.MonkeyPatch.context() as patch:
        for module in where:
            patch.setattr(module, "make_policy", made)
        yield


def tiny_policy(folder: Path, **settings: Any) -> Flux2Policy:
    """The policy of a folder with an adapter that changes it already, as after some updates."""
    policy = make_policy(f"tiny:{folder}", **{"rank": 4, "alpha": 8, "seed": 1} | settings)
    stir(policy)
    return policy


def stir(policy: Flux2Policy, seed: int = 5, size: float = 0.05) -> None:
    """Gives a fresh adapter weights that do something."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.trained().values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=drawn))


def scene_case(index: int, size_px: int = SIDE_PX) -> PolicyCase:
    """A plain scene as a case."""
    return plain_case(7, index, size_px)


def photo_case(width: int, height: int, masks: Sequence[MaskBool], seed: int = 0, name: str = "photo") -> PolicyCase:
    """A source of any size, smooth colours and some noise, with regions of the test's own; it has no goal."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 200, (-(-height // 8), -(-width // 8), 3)), np.ones((8, 8, 1)))
    image: ImageU8 = (coarse[:height, :width] + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)
    source = Source(
        name=name, origin_sha256=f"{seed:064x}", pixels_sha256=f"{seed:064x}", width_px=width, height_px=height
    )
    request = EditRequest(
        id=f"{seed:016x}",
        name=name,
        kind="single",
        sources=(source,),
        instruction="make the square red",
        targets=tuple(Target(label=f"thing {n}", operation="recolour") for n in range(len(masks))),
        edit_type="recolour",
        synthetic=True,
    )
    return PolicyCase(request, image, {region_id(request.id, n): mask for n, mask in enumerate(masks)})


def boxed(width: int, height: int, *boxes: tuple[int, int, int, int]) -> list[MaskBool]:
    """A mask for each box (x1, y1, x2, y2) in pixels."""
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[y1:y2, x1:x2] = True
        masks.append(mask)
    return masks


def small(dataset: Path, policy: Path, **changes: object) -> PolicyConfig:
    """The settings of a training of a second or two."""
    fields: dict[str, object] = {
        "dataset": str(dataset), "policy": f"tiny:{policy}", "updates": 2, "requests": 2, "group": 3,
        "sampling_steps": 3, "trained_steps": (0, 1), "evaluation_steps": 2, "evaluation_requests": 1,
        "lora_rank": 2, "lora_alpha": 4, "learning_rate": 1e-3, "threads": 1, "seed": 3, "stop_early": False,
        "sheet_every": 1_000, "checkpoint_every": 1_000, "evaluate_every": 1_000,
    }  # fmt: skip
    return PolicyConfig.model_validate(fields | changes)


class Bright:
    """A reward of this file's own: how bright a region is. fail: which calls do what a test says, by their number."""

    name, synthetic = "bright", True

    def __init__(self, fail: dict[int, Any] | None = None) -> None:
        self.calls, self._fail = 0, fail or {}

    def score(self, cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> list[RegionRewards]:
        """25 for white, 0 for black; or as told."""
        self.calls += 1
        if (act := self._fail.get(self.calls)) is not None:
            return list(act(cases))
        return [
            RegionRewards(
                {key: 25 * float(image[mask].mean()) / 255 for key, mask in case.masks.items()},
                background=25 * float(image.mean()) / 255,
                aesthetics=20.0,
            )
            for case, image in zip(cases, images, strict=True)
        ]


Score = Callable[[Sequence[PolicyCase]], list[RegionRewards]]
#: Settings of a training whose surroundings are tested: half as many steps of the model.
BRIEF = {"sampling_steps": 2, "trained_steps": (0,), "evaluation_steps": 1}


def brief(dataset: Path, policy: Path, **changes: object) -> PolicyConfig:
    """`small` with half as many steps of the model."""
    return small(dataset, policy, **BRIEF | changes)


def use_bright(patch: pytest.MonkeyPatch, fail: dict[int, Score] | None = None) -> Bright:
    """Puts `Bright` in the place of a training's reward."""
    reward = Bright(fail)
    patch.setattr(train, "make_case_reward", lambda _: reward)
    return reward


def refused(_: Sequence[PolicyCase]) -> list[RegionRewards]:
    """A reward whose server is down."""
    raise ConnectionRefusedError(111, "Connection refused")


@contextmanager
def cheap_trainings() -> Iterator[None]:
    """While it is open a dataset is read once and a policy made once, and nothing is drawn: noise stands for a sheet.

    That is most of a training this small; pictures have tests of their own.
    """
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch, policies_made_once(train):
        patch.setattr(train, "load_cases", cache(load_cases))
        patch.setattr(results, "curves", lambda *_, **__: None)
        patch.setattr(train, "sheet", lambda *_, **__: noise)
        yield


#: Figures of an update that tell of the clock, not of the training.
TIMES = ("tokens_per_s", "rollout_s", "reward_wait_s", "update_s")


def learnt(out: Path) -> dict[str, Any]:
    """All that a training leaves behind but what hangs on the clock: figures, tests, and the bytes of its tensors."""
    state = json.loads((out / "training/state.json").read_bytes())
    for row in state["history"]:
        for name in TIMES:
            row.pop(name)
    files = ("adapter.safetensors", f"training/{state['tensors']}")
    return {"state": state} | {name: (out / name).read_bytes() for name in files}


#: What klein's chat template puts around an instruction, in short.
ROLES = "<|im_start|>user\n{% for m in messages %}{{ m['content'] }}{% endfor %}<|im_end|>\n<|im_start|>assistant\n"


def klein_pipeline(*, distilled: bool = False) -> Flux2KleinPipeline:
    """FLUX.2-klein's architecture with random weights and few of them: 32 latent channels, 28 layers of text."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer(0, 30)
    tokenizer.chat_template = ROLES
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=32,
        norm_num_groups=4,
    ).eval()
    measure_token_scale(vae, scene_pixels(0, 0, 1))
    text = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=128, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=32, mlp_ratio=1.5, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )  # fmt: skip
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="exponential"),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(text),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )
