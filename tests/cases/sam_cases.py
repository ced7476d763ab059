"""A small Sam with random weights, and images with prompts of every kind for it."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from pipeline.models.protocols import Prompt
from pipeline.models.sam import SamSegmenter, SamSettings
from pipeline.models.sam_architectures import SamSizes, build_sam
from pipeline.models.sam_checkpoint import SamCheckpoint
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8
from runtime.masks import MaskBool

#: Windows that do not divide the grid, and a block that attends over all of it.
SMALL = SamSizes(
    image_px=128,
    patch_px=16,
    encoder_dim=48,
    encoder_depth=2,
    encoder_heads=2,
    encoder_mlp_dim=96,
    window_cells=3,
    global_blocks=(1,),
    prompt_dim=32,
    decoder_depth=2,
    decoder_heads=2,
    decoder_mlp_dim=64,
    iou_hidden_dim=32,
)
AS_IT_IS = SamSettings(device="cpu", precision="fp32", hole_share=0, island_share=0, workers=2)
#: (height, width): square, flat, tall, smaller and larger than the encoder's input, 20 px.
IMAGE_SIZES = ((128, 128), (96, 128), (150, 90), (64, 64), (20, 20), (250, 350))


def random_sam(sizes: SamSizes = SMALL, seed: int = 0) -> Sam:
    """A Sam with random weights, positions too: the package starts those at zero, where a fault would not show."""
    torch.manual_seed(seed)
    sam = build_sam(sizes)
    with torch.no_grad():
        for name, weight in sam.image_encoder.named_parameters():
            if "pos" in name:
                weight.normal_(std=0.2)
    return sam.requires_grad_(False)


def segmenter(sam: Sam, settings: SamSettings = AS_IT_IS, sizes: SamSizes = SMALL) -> SamSegmenter:
    return SamSegmenter(SamCheckpoint(sam, sizes, "0" * 64), settings)


def images_with_prompts(count: int, prompts_each: int, seed: int = 0) -> tuple[list[ImageU8], list[list[Prompt]]]:
    """Scenes of several sizes; of ten prompts four are boxes, four points (one to three), two both."""
    rng = np.random.default_rng(seed)
    images, prompts = [], []
    for index in range(count):
        height, width = IMAGE_SIZES[index % len(IMAGE_SIZES)]
        images.append(cv2.resize(render_scene(3, index, 96).image_hwc_u8, (width, height)))
        prompts.append([_prompt(rng, number % 10, width, height) for number in range(prompts_each)])
    return images, prompts


def _prompt(rng: np.random.Generator, kind: int, width: int, height: int) -> Prompt:
    (x1, x2), (y1, y2) = np.sort(rng.uniform(0, width - 1, 2)), np.sort(rng.uniform(0, height - 1, 2))
    count = (0, 0, 0, 0, 1, 1, 2, 3, 1, 2)[kind]
    points = tuple(
        (float(rng.uniform(0, width)), float(rng.uniform(0, height)), bool(rng.integers(2))) for _ in range(count)
    )
    return Prompt(None if 4 <= kind < 8 else (float(x1), float(y1), float(x2) + 1, float(y2) + 1), points)


def package_logits(
    sam: Sam, images: list[ImageU8], prompts: list[list[Prompt]], multimask: bool | None = None
) -> list[list[tuple[NDArray[np.float32], float]]]:
    """What the package's own predictor makes of it, a prompt a call: logits of the best predicted IoU, and that."""
    predictor = SamPredictor(sam)
    answers = []
    for image, asked in zip(images, prompts, strict=True):
        predictor.set_image(image)
        answers.append([_package_logits(predictor, prompt, multimask) for prompt in asked])
    return answers


def package_masks(
    sam: Sam, images: list[ImageU8], prompts: list[list[Prompt]], multimask: bool | None = None
) -> list[list[tuple[MaskBool, float]]]:
    """The same as masks: logits above the model's threshold."""
    found = package_logits(sam, images, prompts, multimask)
    return [[(logits > sam.mask_threshold, score) for logits, score in row] for row in found]


def _package_logits(
    predictor: SamPredictor, prompt: Prompt, multimask: bool | None
) -> tuple[NDArray[np.float32], float]:
    is_ambiguous = prompt.box is None and len(prompt.points) == 1
    logits, scores, _ = predictor.predict(
        point_coords=np.array([point[:2] for point in prompt.points]) if prompt.points else None,
        point_labels=np.array([int(point[2]) for point in prompt.points]) if prompt.points else None,
        box=None if prompt.box is None else np.array(prompt.box),
        multimask_output=is_ambiguous if multimask is None else multimask,
        return_logits=True,
    )
    return logits[scores.argmax()], float(scores.max())


def iou(one: MaskBool, other: MaskBool) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
