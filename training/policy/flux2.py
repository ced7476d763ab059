"""FLUX.2-klein as a policy: diffusers' own classes from a folder, with a LoRA that training changes.

The tiny policy and klein base-4B or 9B are the same code: a pipeline's folder, and how it is asked (`Flux2Settings`).
Attention masks nothing in FLUX.2, so requests are batched only where their token grids agree. Left out: several
reference images, and the distilled models (they are refused: a step of theirs is no step of a flow).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel, ModelMixin
from peft import LoraConfig
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.initialization import no_init_weights

from runtime.images import ImageU8
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput, OutOfMemory
from training.policy.edit_cases import PolicyCase
from training.policy.flow_sde import flux2_sigmas, uniform_sigmas
from training.policy.flux2_tokens import (
    REFERENCE_TIME,
    decode_tokens,
    encode_images,
    image_positions,
    text_positions,
)
from training.policy.protocol import Conditioning
from training.policy.token_masks import TokenGrid, flux2_grid

#: The linear layers of FLUX.2's transformer that a LoRA sits on: attention and feed-forward of both kinds of block.
LORA_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "to_qkv_mlp_proj", "to_out", "ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out",
)  # fmt: skip
ADAPTER = "policy"


@dataclass(frozen=True)
class Flux2Settings:
    """How a checkpoint is sampled. The defaults are those of FLUX.2-klein base.

    guidance: of classifier-free guidance, 1 for none; text_tokens: length that every instruction is padded to;
    text_layers: hidden states of the text encoder that are read; schedule: `flux2`, shifted by the number of tokens, or
    `uniform`; synthetic: whether it was trained on procedural scenes alone.
    """

    guidance: float = 4.0
    text_tokens: int = 512
    text_layers: tuple[int, ...] = (9, 18, 27)
    schedule: str = "flux2"
    synthetic: bool = False


@dataclass(frozen=True)
class LoraSettings:
    """The adapter that training changes: rank, and alpha (its output is scaled by alpha / rank)."""

    rank: int = 16
    alpha: int = 32


class Flux2Policy:
    """A `training.policy.protocol.Policy` on a FLUX.2-klein pipeline; the pipeline's weights stay as they are."""

    def __init__(
        self,
        pipeline: Flux2KleinPipeline,
        settings: Flux2Settings,
        lora: LoraSettings,
        name: str,
        revision: str,
        *,
        device: str = "cpu",
        checkpointing: bool = False,
    ) -> None:
        if pipeline.config.is_distilled:
            raise BadInput(f"policy {name}", "is a distilled model", "train the base model, not the distilled one")
        self.name, self.revision, self.synthetic = name, revision, settings.synthetic
        self.settings, self.lora, self.device = settings, lora, torch.device(device)
        self.text_encoder = pipeline.text_encoder.to(self.device).eval().requires_grad_(False)
        self.vae = pipeline.vae.to(self.device).eval().requires_grad_(False)
        self.transformer = pipeline.transformer.to(self.device).eval().requires_grad_(False)
        self.tokenizer, self.processor = pipeline.tokenizer, pipeline.image_processor
        self.token_px = 2 * pipeline.vae_scale_factor
        self._referring = False
        self.transformer.add_adapter(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=_lora_targets(self.transformer)), ADAPTER
        )
        for parameter in self.trained().values():
            parameter.data = parameter.data.float()
        if checkpointing:
            self.transformer.enable_gradient_checkpointing()

    def token_grid(self, width_px: int, height_px: int) -> TokenGrid:
        """FLUX.2's grid. Raises: BadInput for a source under 64 px or of an aspect above 8."""
        return flux2_grid(width_px, height_px, token_px=self.token_px)

    def sigmas(self, steps: int, tokens: int) -> Tensor:
        """(steps + 1,) float32, from 1 to 0, by the policy's schedule."""
        return uniform_sigmas(steps) if self.settings.schedule == "uniform" else flux2_sigmas(steps, tokens)

    @torch.no_grad()
    def encode(self, cases: Sequence[PolicyCase]) -> Conditioning:
        """Texts and sources of requests of one token grid. Raises: BadInput where an instruction is too long."""
        height, width = cases[0].source.shape[:2]
        grid = self.token_grid(width, height)
        pixels = torch.cat([self._pixels(case.source, grid) for case in cases])
        source = encode_images(self.vae, pixels.to(self.device))
        text = self._text([case.request.instruction for case in cases])
        guided = self.settings.guidance > 1
        target_at, source_at = image_positions(grid.grid_hw), image_positions(grid.grid_hw, REFERENCE_TIME)
        text_at = text_positions(text.shape[1])
        rows = len(cases), -1, -1
        return Conditioning(
            text=text,
            text_at=text_at.to(self.device).expand(*rows),
            source=source,
            source_at=source_at.to(self.device).expand(*rows),
            target_at=target_at.to(self.device).expand(*rows),
            no_text=self._text([""]) if guided else None,
            grid=grid,
        )

    def velocity(self, x: Tensor, sigma: Tensor, seen: Conditioning) -> Tensor:
        """The guidance-combined velocity (B, N, C) float32."""
        v = self._velocity(x, sigma, seen, seen.text)
        if seen.no_text is None:
            return v
        unguided = self._velocity(x, sigma, seen, seen.no_text.expand(len(x), -1, -1))
        return unguided + self.settings.guidance * (v - unguided)

    @torch.no_grad()
    def decode(self, x: Tensor, grid: TokenGrid) -> list[ImageU8]:
        """Clean latents (B, N, C) as images, HWC uint8 RGB."""
        shown = decode_tokens(self.vae, x, grid.grid_hw).float()
        pixels = ((shown.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Context with the adapter off; nested contexts change nothing, the outermost one turns it on again."""
        if self._referring:
            yield
            return
        self._referring = True
        self.transformer.disable_adapters()
        try:
            yield
        finally:
            self.transformer.enable_adapters()
            self._referring = False

    def trained(self) -> dict[str, nn.Parameter]:
        """The adapter's parameters by name, float32 whatever the model's type."""
        return {name: p for name, p in sorted(self.transformer.named_parameters()) if f".{ADAPTER}." in name}

    def _pixels(self, source: ImageU8, grid: TokenGrid) -> Tensor:
        """A source (1, 3, H, W) in [-1, 1], scaled and cropped as FLUX.2's own image processor does it."""
        image = Image.fromarray(source)
        if image.size != (grid.resized_width_px, grid.resized_height_px):
            image = image.resize((grid.resized_width_px, grid.resized_height_px), Image.Resampling.LANCZOS)
        pixels: Tensor = self.processor.preprocess(
            image, height=grid.height_px, width=grid.width_px, resize_mode="crop"
        )
        return pixels

    def _text(self, instructions: list[str]) -> Tensor:
        """Hidden states (B, L, D) of instructions, as klein reads them; pads take part, as in its own pipeline."""
        length = self.settings.text_tokens
        for instruction in instructions:
            used = self._tokens_of(instruction)
            if used > length:
                raise BadInput(
                    f"instruction {instruction[:60]!r}", f"has {used} tokens, more than {length}", "shorten it"
                )
        read: Tensor = Flux2KleinPipeline._get_qwen3_prompt_embeds(
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            prompt=instructions,
            device=self.device,
            max_sequence_length=length,
            hidden_states_layers=list(self.settings.text_layers),
        )
        return read

    def _tokens_of(self, instruction: str) -> int:
        """Tokens of an instruction with what the chat template puts around it."""
        messages = [{"role": "user", "content": instruction}]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return len(self.tokenizer(text)["input_ids"])

    def _velocity(self, x: Tensor, sigma: Tensor, seen: Conditioning, text: Tensor) -> Tensor:
        return flux2_velocity(self.transformer, x, sigma, seen, text)


def flux2_velocity(transformer: nn.Module, x: Tensor, sigma: Tensor, seen: Conditioning, text: Tensor) -> Tensor:
    """One forward of FLUX.2's transformer: velocity (B, N, C) float32 of the target tokens.

    x: (B, N, C); sigma: (B,) in [0, 1]; text: (B, L, D). Source: Flux2KleinPipeline.__call__, step 7.
    """
    dtype = text.dtype
    v: Tensor = transformer(
        hidden_states=torch.cat([x.to(dtype), seen.source.to(dtype)], dim=1),
        timestep=sigma.to(dtype),
        guidance=None,
        encoder_hidden_states=text,
        txt_ids=seen.text_at[:, : text.shape[1]],
        img_ids=torch.cat([seen.target_at, seen.source_at], dim=1),
        return_dict=False,
    )[0]
    return v[:, : x.shape[1]].float()


def _lora_targets(transformer: nn.Module) -> list[str]:
    """Full names of the linear layers inside the blocks that `LORA_TARGETS` names."""
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
        and "transformer_blocks." in name
        and any(name.endswith(f".{target}") for target in LORA_TARGETS)
    ]


def load_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> Flux2KleinPipeline:
    """A FLUX.2-klein pipeline from a local folder; nothing is fetched and no code of the folder runs.

    Raises: BadInput where the folder holds no such pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise BadInput(f"policy {folder}", "holds no model_index.json", "give the folder of a FLUX.2-klein checkpoint")
    try:
        _check_weights(folder)
        pipeline: Flux2KleinPipeline = Flux2KleinPipeline.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"policy {folder}", "does not fit into memory", "free some, or set dtype to bfloat16"
            ) from error
        fault = f"cannot be loaded as FLUX.2-klein: {str(error).splitlines()[0][:200] if str(error) else error!r}"
        raise BadInput(f"policy {folder}", fault, "download the checkpoint anew, whole") from None
    if not isinstance(pipeline, Flux2KleinPipeline):
        raise BadInput(f"policy {folder}", f"is a {type(pipeline).__name__}", "give a FLUX.2-klein checkpoint")
    return pipeline


def _check_weights(folder: Path) -> None:
    """Raises: ValueError where the config of a part describes other weights than its files hold.

    What they lack would be drawn at random with no more than a warning, and an empty config is a model of billions.
    """
    with torch.device("meta"), no_init_weights():
        parts: dict[str, nn.Module] = {
            "text_encoder": Qwen3ForCausalLM(Qwen3Config.from_pretrained(folder / "text_encoder")),
            "transformer": _described(Flux2Transformer2DModel, folder / "transformer"),
            "vae": _described(AutoencoderKLFlux2, folder / "vae"),
        }
    for name, part in parts.items():
        held: dict[str, tuple[int, ...]] = {}
        for file in (folder / name).glob("*.safetensors"):
            with safe_open(file, "pt") as opened:
                held |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}
        tied = set(getattr(part, "all_tied_weights_keys", ()))
        for key, tensor in part.state_dict().items():
            if key not in held and key not in tied:
                raise ValueError(f"{name} has no weight {key}, which its config asks for")
            if held.get(key, tuple(tensor.shape)) != tuple(tensor.shape):
                raise ValueError(f"{name}: weight {key} is {held[key]}, by its config {tuple(tensor.shape)}")


def _described(kind: type[ModelMixin], folder: Path) -> nn.Module:
    """The model that a folder's config describes, of a class of diffusers."""
    made: nn.Module = kind.from_config(kind.load_config(folder, local_files_only=True))
    return made


def with_guidance(settings: Flux2Settings, guidance: float | None) -> Flux2Settings:
    """`settings` with another guidance, or as they are for None."""
    return settings if guidance is None else replace(settings, guidance=guidance)
