"""The tiny policy's transformer, and its parts put together as a FLUX.2-klein pipeline."""

from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from training.policy.flux2 import Flux2Settings
from training.policy.tiny.text import HIDDEN, TEXT_LAYERS, TEXT_TOKENS
from training.policy.tiny.vae import LATENT_CHANNELS

#: How the tiny policy is asked: no guidance, a short text, evenly spaced noise levels.
TINY = Flux2Settings(guidance=1.0, text_tokens=TEXT_TOKENS, text_layers=TEXT_LAYERS, schedule="uniform", synthetic=True)


def new_transformer() -> Flux2Transformer2DModel:
    """An untrained transformer of about a million parameters."""
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=HIDDEN * len(TEXT_LAYERS),
        timestep_guidance_channels=64,
        mlp_ratio=1.5,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )


def as_pipeline(
    vae: AutoencoderKLFlux2,
    text_encoder: Qwen3ForCausalLM,
    tokenizer: Qwen2TokenizerFast,
    transformer: Flux2Transformer2DModel,
) -> Flux2KleinPipeline:
    """The parts as a pipeline, which writes and reads its folder itself."""
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
