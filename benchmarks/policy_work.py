"""The work that `benchmarks.policy` measures: rollout and update of one group, ours and the same written plainly."""

from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from training.policy.config import PolicyConfig
from training.policy.edit_cases import PolicyCase, plain_case
from training.policy.flux2 import Flux2Policy, Flux2Settings, LoraSettings
from training.policy.protocol import Conditioning
from training.policy.sampling import Samples, Sampling, noise_of, roll_out
from training.policy.tiny.model import TINY, as_pipeline, new_transformer
from training.policy.tiny.text import new_text_encoder, new_tokenizer
from training.policy.tiny.vae import new_vae
from training.policy.token_masks import batched, token_masks
from training.policy.update import PolicyBatch, accumulate


@dataclass(frozen=True)
class Architecture:
    """What is measured. size_px: of the source; group: samples; steps, trained: of a rollout."""

    size_px: int
    group: int
    steps: int
    trained: tuple[int, ...]
    dtype: torch.dtype
    checkpointing: bool


ARCHITECTURES = {
    "tiny": Architecture(128, 16, 8, (0, 1, 2), torch.float32, False),
    "klein-4b": Architecture(512, 16, 10, (0, 1, 2), torch.bfloat16, True),
}


def random_pipeline(name: str, device: str) -> tuple[Flux2KleinPipeline, Flux2Settings]:
    """A pipeline of an architecture with random weights, and how it is asked."""
    tokenizer = new_tokenizer(0, 200)
    torch.manual_seed(0)
    if name == "tiny":
        vae = new_vae()
        return as_pipeline(vae, new_text_encoder(tokenizer), tokenizer, new_transformer()), TINY
    shape = ARCHITECTURES[name]
    text = Qwen3Config(
        vocab_size=151_936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device(device):
        torch.set_default_dtype(shape.dtype)
        transformer = Flux2Transformer2DModel(
            in_channels=128, num_layers=5, num_single_layers=20, attention_head_dim=128, num_attention_heads=24,
            joint_attention_dim=7680, guidance_embeds=False,
        )  # fmt: skip
        encoder, vae = Qwen3ForCausalLM(text), AutoencoderKLFlux2()
        torch.set_default_dtype(torch.float32)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="exponential")
    pipeline = Flux2KleinPipeline(scheduler, vae, encoder, tokenizer, transformer)
    return pipeline, Flux2Settings()


def scene(size_px: int) -> PolicyCase:
    """A request for several regions."""
    return next(case for index in range(100) if len((case := plain_case(7, index, size_px)).masks) >= 2)


def config_of(shape: Architecture, method: str) -> PolicyConfig:
    """The settings of a training of this architecture."""
    return PolicyConfig(
        dataset="none",
        method="spatial" if method == "spatial" else "global",
        sampling_steps=shape.steps,
        trained_steps=shape.trained,
        group=shape.group,
        train_batch=shape.group if shape.dtype == torch.float32 else 4,
        sample_batch=shape.group,
        dtype="float32" if shape.dtype == torch.float32 else "bfloat16",
    )


class Work:
    """One group of one request: our rollout and update, and the same written plainly."""

    def __init__(self, name: str, device: str) -> None:
        self.shape, self.device = ARCHITECTURES[name], device
        self.pipeline, settings = random_pipeline(name, device)
        self.policy = Flux2Policy(
            self.pipeline, settings, LoraSettings(), name, "random", device=device, checkpointing=False
        )
        if self.shape.checkpointing:
            self.policy.transformer.enable_gradient_checkpointing()
        self.case = scene(self.shape.size_px)
        self.sampling = Sampling(self.shape.steps, self.shape.trained, 0.7)

    def rollout(self) -> PolicyBatch:
        """Source and text encoded once, all samples at once, images decoded."""
        group, seen = self.shape.group, self.seen()
        streams = [noise_of(0, 0, self.case.id, number) for number in range(group)]
        samples = roll_out(self.policy, seen, streams, self.sampling, self.shape.dtype)
        for first in range(0, group, 4):
            self.policy.decode(samples.latents[first : first + 4], seen.grid)
        return self.batch(seen, samples)

    def seen(self) -> Conditioning:
        """The request, encoded once and taken for each sample."""
        rows = torch.zeros(self.shape.group, dtype=torch.int64, device=self.device)
        return self.policy.encode([self.case]).take(rows)

    def noise(self) -> PolicyBatch:
        """Samples of pure noise, where a rollout's own memory would hide what is measured."""
        seen, trained = self.seen(), len(self.shape.trained)
        shape = self.shape.group, seen.tokens, seen.channels
        drawn = torch.Generator().manual_seed(0)
        x, x_next = (torch.randn(trained, *shape, generator=drawn).to(self.device, self.shape.dtype) for _ in range(2))
        return self.batch(seen, Samples(x[0], x, x_next, torch.zeros(trained, *shape[:2], device=self.device)))

    def batch(self, seen: Conditioning, samples: Samples) -> PolicyBatch:
        """The samples with regions and advantages, which are drawn."""
        masks = token_masks(self.case.masks, seen.grid)
        regions = batched([masks] * self.shape.group).to(self.device)
        advantages = torch.randn(regions.mass.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return PolicyBatch(seen, samples, regions, advantages)

    def update(self, batch: PolicyBatch, method: str) -> None:
        """The gradient of one optimiser step."""
        chosen = batch if method == "spatial" else replace(batch, advantages=batch.advantages[:, 0])
        accumulate(self.policy, chosen, config_of(self.shape, method), 1.0)
        for parameter in self.policy.trained().values():
            parameter.grad = None

    def plain_rollout(self) -> None:
        """The pipeline called once for each sample."""
        settings = self.policy.settings
        with torch.no_grad():
            for number in range(self.shape.group):
                self.pipeline(
                    image=Image.fromarray(self.case.source),
                    prompt=self.case.request.instruction,
                    num_inference_steps=self.shape.steps,
                    guidance_scale=settings.guidance,
                    generator=torch.Generator().manual_seed(number),
                    max_sequence_length=settings.text_tokens,
                    text_encoder_out_layers=settings.text_layers,
                    output_type="np",
                )

    def plain_update(self, batch: PolicyBatch) -> None:
        """Every sample encoded and learnt from by itself."""
        one = replace(batch, advantages=batch.advantages[:, 0])
        config = config_of(self.shape, "global")
        for number in range(self.shape.group):
            seen = self.policy.encode([self.case])
            piece = one.take(torch.tensor([number], device=self.device))
            accumulate(self.policy, replace(piece, conditioning=seen), config, 1 / self.shape.group)
        for parameter in self.policy.trained().values():
            parameter.grad = None

    def flop_a_forward(self) -> float:
        """Floating-point operations of one forward of one sample: products with weights, and attention."""
        transformer = self.policy.transformer
        seen = self.policy.encode([self.case])
        tokens = seen.target_at.shape[1] + seen.source_at.shape[1] + seen.text.shape[1]
        weights = sum(p.numel() for n, p in transformer.named_parameters() if "transformer_blocks" in n and p.ndim == 2)
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        blocks = transformer.config.num_layers + transformer.config.num_single_layers
        # A double block has weights of its own for text and image: each token meets half of them.
        doubles = sum(
            p.numel() for n, p in transformer.named_parameters() if n.startswith("transformer_blocks") and p.ndim == 2
        )
        return float(2 * (weights - doubles / 2) * tokens + 4 * blocks * tokens**2 * width)
