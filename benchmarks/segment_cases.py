"""The cases of `benchmarks.segment`: images with boxes, the masks of both sides, and how far they agree."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from benchmarks.difference import iou
from pipeline.models.protocols import Prompt
from pipeline.models.sam import SamSegmenter, SamSettings
from pipeline.models.sam_architectures import ARCHITECTURES
from pipeline.models.sam_checkpoint import SamCheckpoint
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, decode_image, encode_image
from runtime.masks import MaskBool
from schemas.errors import RegionwiseError

SEED = 4
BOXES_EACH = 8
#: Random weights make masks of noise, on which bf16 costs the package, too, more than 0.01: then ours may differ from
#: its figure by this much.
BF16_MARGIN = 0.005
Precision = Literal["fp32", "bf16"]
Masks = list[list[MaskBool]]


class Decoded(Sequence[ImageU8]):
    """Encoded images that are decoded by whoever asks for one: here, the segmenter's threads."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: Any) -> Any:
        return decode_image(self.encoded[index])


@dataclass(frozen=True)
class Cases:
    """Encoded images and the boxes on each."""

    encoded: list[bytes]
    boxes: list[list[tuple[float, float, float, float]]]

    @property
    def prompts(self) -> list[list[Prompt]]:
        return [[Prompt(box=box) for box in boxes] for boxes in self.boxes]

    def first(self, count: int) -> "Cases":
        """The first `count` images."""
        return Cases(self.encoded[:count], self.boxes[:count])

    def repeated(self, times: int) -> "Cases":
        """Every fourth image, `times` times in a row: a source with its candidates."""
        return Cases(
            [data for data in self.encoded[::times] for _ in range(times)],
            [boxes for boxes in self.boxes[::times] for _ in range(times)],
        )


def make_cases(count: int, size_px: int) -> Cases:
    """Procedural scenes as JPEG, and boxes of 0.1 to 0.6 of their side anywhere on them."""
    rng = np.random.default_rng(SEED)
    encoded, boxes = [], []
    for index in range(count):
        encoded.append(encode_image(render_scene(SEED, index, size_px).image_hwc_u8, "jpeg"))
        sides = rng.uniform(0.1, 0.6, (BOXES_EACH, 2)) * size_px
        corners = rng.uniform(0, 1, (BOXES_EACH, 2)) * (size_px - sides)
        boxes.append(
            [(float(x), float(y), float(x + w), float(y + h)) for (x, y), (w, h) in zip(corners, sides, strict=True)]
        )
    return Cases(encoded, boxes)


def plain_loop(sam: Sam, cases: Cases, precision: Precision) -> Masks:
    """The loop over the package; bf16 is autocast around the encoder (`predict` itself cannot return bf16)."""
    predictor, masks = SamPredictor(sam), []
    bf16 = torch.autocast(sam.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    for data, boxes in zip(cases.encoded, cases.boxes, strict=True):
        with bf16:
            predictor.set_image(decode_image(data))
        masks.append([predictor.predict(box=np.array(box), multimask_output=False)[0][0] for box in boxes])
    return masks


def our_stage(sam: Sam, cases: Cases, settings: SamSettings) -> Masks:
    """The segmenter, made anew, so that nothing is cached from a round before."""
    segmenter = SamSegmenter(SamCheckpoint(sam, ARCHITECTURES["tiny"], "0" * 64), settings)
    found = segmenter.segment(Decoded(cases.encoded), cases.prompts)
    return [[segment.mask for segment in row] for row in found]


def check_masks(sam: Sam, cases: Cases, settings: SamSettings) -> dict[str, float]:
    """IoU of our masks with the package's in fp32: the smallest in fp32, means in bf16, the package's own beside them.

    Raises: RegionwiseError where fp32 falls below 0.999, or bf16 below 0.99 and below what the package's bf16 reaches.
    """
    truth = plain_loop(sam, cases, "fp32")
    figures = _ious(truth, our_stage(sam, cases, settings))
    if settings.precision == "fp32":
        same, wanted, named = min(figures), 0.999, {"fp32_mask_iou_min": min(figures)}
    else:
        theirs = float(np.mean(_ious(truth, plain_loop(sam, cases, "bf16"))))
        same, wanted = float(np.mean(figures)), min(0.99, theirs - BF16_MARGIN)
        named = {"bf16_mask_iou_mean": same, "bf16_mask_iou_mean_of_the_package": theirs}
    if same < wanted:
        raise RegionwiseError("benchmark segment", f"the masks are not the package's: IoU {same:.4f} < {wanted:.4f}")
    return {f"{sam.device.type}_{name}": figure for name, figure in named.items()}


def _ious(some: Masks, others: Masks) -> list[float]:
    return [iou(*pair) for both in zip(some, others, strict=True) for pair in zip(*both, strict=True)]
