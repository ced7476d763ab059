"""Our sampling against diffusers' own pipeline: the same first noise ends in the same latents and the same picture."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from schemas.errors import BadInput
from tests.cases.policy_loop_cases import boxed, photo_case, tiny_policy
from training.policy.edit_cases import PolicyCase
from training.policy.flux2 import Flux2Policy, Flux2Settings, LoraSettings, load_pipeline
from training.policy.flux2_tokens import encode_images, token_scale, unpack
from training.policy.registry import make_policy
from training.policy.sampling import noise_of, sample_ode
from training.policy.tiny.model import TINY
from training.policy.tiny.pretrain import text_states, word_ids
from training.policy.tiny.text import TEXT_TOKENS
from training.policy.tiny.vae import scene_pixels

#: How the scheduler of FLUX.2-klein is configured.
KLEIN_SCHEDULER = {
    "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "time_shift_type": "exponential",
}  # fmt: skip
STEPS = 3


def case_of(width: int, height: int) -> PolicyCase:
    return photo_case(width, height, boxed(width, height, (8, 8, 40, 40)), seed=width)


def asking(instruction: str) -> PolicyCase:
    case = case_of(64, 64)
    return replace(case, request=case.request.model_copy(update={"instruction": instruction}))


def theirs_of(pipeline: Flux2KleinPipeline, case: PolicyCase, noise: Tensor, guidance: float, out: str) -> Tensor:
    """What diffusers' pipeline makes of the case from `noise` (h, w, C)."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        image=Image.fromarray(case.source),
        prompt=case.request.instruction,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=noise.permute(2, 0, 1)[None],
        max_sequence_length=TEXT_TOKENS,
        text_encoder_out_layers=TINY.text_layers,
        output_type=out,
    )
    return torch.as_tensor(made.images)


def both(
    folder: Path, case: PolicyCase, guidance: float, schedule: str
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(latents, image in [0, 1]) of our sampling and of the pipeline's."""
    theirs = load_pipeline(folder)
    settings = Flux2Settings(guidance, TINY.text_tokens, TINY.text_layers, schedule)
    if schedule == "flux2":
        theirs.scheduler = FlowMatchEulerDiscreteScheduler(**KLEIN_SCHEDULER)
    policy = Flux2Policy(load_pipeline(folder), settings, LoraSettings(4, 8), "tiny", "0")
    seen = policy.encode([case])
    tokens = sample_ode(policy, seen, [noise_of(1, 2, case.id, 3)], STEPS)
    mean, std = token_scale(policy.vae)
    latents = unpack(tokens * std + mean, seen.grid.grid_hw)
    image = torch.from_numpy(policy.decode(tokens, seen.grid)[0]) / 255
    rows, columns = seen.grid.grid_hw
    noise = torch.randn((rows * columns, seen.channels), generator=noise_of(1, 2, case.id, 3))
    noise = noise.reshape(rows, columns, -1)
    theirs_latents, theirs_image = (theirs_of(theirs, case, noise, guidance, out) for out in ("latent", "np"))
    return (latents, image), (theirs_latents, theirs_image[0])


@pytest.mark.parametrize(
    ("size", "guidance", "schedule"),
    [
        pytest.param((64, 64), 1.0, "uniform", id="square"),
        pytest.param((96, 64), 3.0, "uniform", id="not square, guided"),
        pytest.param((107, 76), 1.0, "flux2", id="centre crop, shifted schedule"),
        pytest.param((75, 118), 3.0, "flux2", id="upright, centre crop, guided, shifted schedule"),
    ],
)
def test_sampling_is_the_pipelines(random_policy: Path, size: tuple[int, int], guidance: float, schedule: str) -> None:
    (latents, image), (theirs, their_image) = both(random_policy, case_of(*size), guidance, schedule)
    assert latents.shape == theirs.shape
    assert theirs.std() > 0.1
    torch.testing.assert_close(latents, theirs, atol=1e-4, rtol=1e-4)
    assert float((image - their_image).abs().max()) <= 0.5 / 255 + 1e-4


def test_a_source_above_a_megapixel_is_scaled_and_cropped_as_the_pipeline_does_it(random_policy: Path) -> None:
    case, policy = case_of(1411, 803), make_policy(f"tiny:{random_policy}", rank=1, alpha=1)
    grid = policy.token_grid(1411, 803)
    image = policy.processor._resize_to_target_area(Image.fromarray(case.source), 1024 * 1024)
    side = policy.token_px
    width, height = image.size[0] // side * side, image.size[1] // side * side
    theirs = policy.processor.preprocess(image, height=height, width=width, resize_mode="crop")
    assert (grid.width_px, grid.height_px) == (width, height)
    assert torch.equal(policy._pixels(case.source, grid), theirs)


def test_instructions_are_read_as_the_pipeline_reads_them_with_pretraining_alike(random_policy: Path) -> None:
    policy = tiny_policy(random_policy)
    cases = [case_of(64, 64), asking("remove the disc")]
    seen = policy.encode(cases)
    theirs, _ = load_pipeline(random_policy).encode_prompt(
        [case.request.instruction for case in cases],
        max_sequence_length=TEXT_TOKENS,
        text_encoder_out_layers=TINY.text_layers,
    )
    torch.testing.assert_close(seen.text, theirs, atol=1e-5, rtol=1e-5)
    words = word_ids(policy.tokenizer, cases)
    end = int(policy.tokenizer.convert_tokens_to_ids(policy.tokenizer.pad_token))
    with torch.no_grad():
        torch.testing.assert_close(text_states(policy.text_encoder, words, end), theirs, atol=1e-5, rtol=1e-5)


def test_encoded_pixels_have_the_batch_statistics_of_the_vae(random_policy: Path) -> None:
    policy = make_policy(f"tiny:{random_policy}", rank=1, alpha=1)
    pixels = scene_pixels(0, 0, 2).float() / 127.5 - 1
    tokens = encode_images(policy.vae, pixels)
    assert tokens.shape == (4, 64, 64)
    torch.testing.assert_close(tokens.mean((0, 1)), torch.zeros(64), atol=1e-3, rtol=0)
    torch.testing.assert_close(tokens.std((0, 1)), torch.ones(64), atol=2e-2, rtol=0)


def test_an_instruction_that_is_too_long_is_refused_by_its_words(random_policy: Path) -> None:
    policy = make_policy(f"tiny:{random_policy}", rank=1, alpha=1)
    words, used = ["remove"], 0
    while used <= TEXT_TOKENS:
        used = len(policy.tokenizer(" ".join([*words, "remove"]))["input_ids"])
        words += ["remove"] if used <= TEXT_TOKENS else []
    assert policy.encode([asking(" ".join(words))]).text.shape[1] == TEXT_TOKENS
    with pytest.raises(BadInput, match=rf"^instruction 'remove .*: has {used} tokens, more than 32; shorten it$"):
        policy.encode([asking(" ".join([*words, "remove"]))])


def test_what_the_chat_template_adds_counts_too(random_policy: Path) -> None:
    policy = make_policy(f"tiny:{random_policy}", rank=1, alpha=1)
    policy.encode([asking("remove the disc")])
    policy.tokenizer.chat_template = "please, " * 20 + "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BadInput, match=r"^instruction 'remove the disc': has \d+ tokens, more than 32; shorten it$"):
        policy.encode([asking("remove the disc")])


def test_a_source_that_flux2_refuses_is_refused_by_its_size(random_policy: Path) -> None:
    policy = make_policy(f"tiny:{random_policy}", rank=1, alpha=1)
    with pytest.raises(BadInput, match=r"^source of 63 x 80 px: has a side under 64 px"):
        policy.token_grid(63, 80)
    with pytest.raises(BadInput, match=r"^source of 64 x 513 px: is more than 8 times"):
        policy.token_grid(64, 513)


def damaged(folder: Path, out: Path, name: str, content: bytes | None) -> Path:
    """A copy of a policy's folder with one file changed or gone."""
    shutil.copytree(folder, out)
    if content is None:
        (out / name).unlink()
    else:
        (out / name).write_bytes(content)
    return out


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("model_index.json", None, "holds no model_index.json; give the folder of a FLUX.2-klein checkpoint"),
        ("model_index.json", b"{", "cannot be loaded as FLUX.2-klein"),
        ("transformer/diffusion_pytorch_model.safetensors", b"cut short", "cannot be loaded as FLUX.2-klein"),
        ("transformer/diffusion_pytorch_model.safetensors", None, "cannot be loaded as FLUX.2-klein"),
        ("text_encoder/config.json", b"{", "cannot be loaded as FLUX.2-klein"),
        ("text_encoder/config.json", b"{}", "cannot be loaded as FLUX.2-klein: .text_encoder: weight model.embed"),
        ("tokenizer/tokenizer.json", b"{}", "cannot be loaded as FLUX.2-klein"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_line(
    random_policy: Path, tmp_path: Path, name: str, content: bytes | None, fault: str
) -> None:
    folder = damaged(random_policy, tmp_path / "policy", name, content)
    with pytest.raises(BadInput, match=rf"^policy {re.escape(str(folder))}: {fault}") as caught:
        make_policy(f"tiny:{folder}", rank=1, alpha=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["text_encoder/model", "transformer/diffusion_pytorch_model"])
def test_weights_that_a_checkpoint_lacks_are_not_drawn_at_random(
    random_policy: Path, tmp_path: Path, part: str
) -> None:
    weights = load_file(random_policy / f"{part}.safetensors")
    gone = sorted(weights)[len(weights) // 2]
    content = save({name: tensor for name, tensor in weights.items() if name != gone}, {"format": "pt"})
    folder = damaged(random_policy, tmp_path / "policy", f"{part}.safetensors", content)
    with pytest.raises(BadInput, match=f"has no weight {re.escape(gone)}, which its config asks for"):
        make_policy(f"tiny:{folder}", rank=1, alpha=1)


def test_no_code_of_a_checkpoint_runs(random_policy: Path, tmp_path: Path) -> None:
    trap, sprung = (
        b"import pathlib\npathlib.Path(%r).write_text('ran')\nclass Flux2Transformer2DModel: pass\n",
        "sprung",
    )
    code = trap % str(tmp_path / sprung)
    index = (random_policy / "model_index.json").read_text()
    for number, changed in enumerate(
        (
            index.replace('"diffusers",\n    "Flux2Transformer2DModel"', '"trap",\n    "Flux2Transformer2DModel"'),
            index.replace('"_class_name": "Flux2KleinPipeline"', '"_class_name": ["trap", "Flux2KleinPipeline"]'),
        )
    ):
        assert changed != index
        folder = damaged(random_policy, tmp_path / f"policy{number}", "model_index.json", changed.encode())
        for place in (folder, folder / "transformer"):
            (place / "trap.py").write_bytes(code)
        with pytest.raises(BadInput, match="cannot be loaded as FLUX"):
            make_policy(f"tiny:{folder}", rank=1, alpha=1)
        assert not (tmp_path / sprung).exists()


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("klein", "policy 'klein': does not say where it is; write klein:FOLDER"),
        ("huge:x", "policy 'huge:x': is not known; choose one of tiny, klein"),
    ],
)
def test_a_spec_that_says_too_little_is_one_clear_line(spec: str, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_policy(spec, rank=1, alpha=1)
    assert str(caught.value) == line


def test_pictures_are_uint8_of_the_crop(random_policy: Path) -> None:
    policy, case = tiny_policy(random_policy), case_of(107, 76)
    seen = policy.encode([case])
    tokens = torch.linspace(-9, 9, seen.tokens * seen.channels).reshape(1, seen.tokens, seen.channels)
    (image,) = policy.decode(tokens, seen.grid)
    assert image.dtype == np.uint8
    assert image.shape == (64, 96, 3)
