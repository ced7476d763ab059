"""The prompted segmenters `sam2:FOLDER` and `sam3:FOLDER`: transformers' models from local folders. Nothing is fetched.

An image is encoded once for all its prompts; of the masks a model offers for a prompt, the one it predicts the highest
IoU for is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.batches import ShrinkingBatches
from pipeline.models.checkpoint import (
    folder_files,
    go_offline,
    load_folder,
    load_local,
    require_package,
)
from pipeline.models.detections import check_finite
from pipeline.models.devices import choose_device
from pipeline.models.protocols import Prompt, Segment
from pipeline.models.revisions import revision_of
from runtime.images import ImageU8


@dataclass(frozen=True)
class Family:
    """A family of models: its classes in transformers, what its config.json may say, where its folders are."""

    name: str
    model_class: str
    processor_class: str
    model_types: tuple[str, ...]
    page: str


#: `*_video` is the whole model, of which the part for images is loaded.
FAMILIES = {
    "sam2": Family(
        "sam2",
        "Sam2Model",
        "Sam2ImageProcessor",
        ("sam2", "sam2_video"),
        "https://huggingface.co/facebook/sam2.1-hiera-tiny",
    ),
    "sam3": Family(
        "sam3",
        "Sam3TrackerModel",
        "Sam3ImageProcessor",
        ("sam3_tracker", "sam3_tracker_video", "sam3_video"),
        "https://huggingface.co/facebook/sam3",
    ),
}


@dataclass(frozen=True)
class SegmentSettings:
    """How many images an encoder and how many prompts a decoder sees at once; halved where memory runs out."""

    images: int = 4
    prompts: int = 64


def load(
    family: Family, place: Path, device: str = "cpu", settings: SegmentSettings | None = None
) -> "TransformersSegmenter":
    """The segmenter of a folder. Raises: BadInput, naming the file that is missing or does not fit; MissingPackage."""
    go_offline()
    sources = files(family, place)
    transformers = require_package("transformers", family.name, "pip install transformers torch torchvision")
    processor = load_local(getattr(transformers, family.processor_class), place, "image processor", family.page)
    torch_device = choose_device(device, f"{family.name}:{place}")
    model = load_folder(getattr(transformers, family.model_class), place).to(torch_device)
    revision = revision_of(sources)
    return TransformersSegmenter(family.name, revision, model, processor, settings or SegmentSettings())


def files(family: Family, place: Path) -> list[Path]:
    """What a segmenter is made of. Raises: BadInput, naming the file that is missing or does not fit."""
    return folder_files(place, family.model_types, family.page)


class TransformersSegmenter:
    """A `pipeline.models.protocols.PromptSegmenter` over transformers' Sam2Model or Sam3TrackerModel."""

    def __init__(self, name: str, revision: str, model: Any, processor: Any, settings: SegmentSettings) -> None:
        self.name, self.revision, self.settings = name, revision, settings
        self._model, self._processor = model, processor
        self._image_batches = ShrinkingBatches(settings.images, self._title())
        self._prompt_batches = ShrinkingBatches(settings.prompts, self._title())
        self._side_px = _side(model.config.prompt_encoder_config.image_size)

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        """For each image one segment per prompt, in the order of its prompts.

        Raises: ValueError for a prompt without box and point, or with a number that is not finite; BadInput where the
        model answers NaN; OutOfMemory where one image does not fit into memory.
        """
        for asked in prompts:
            for prompt in asked:
                check_prompt(prompt)
        jobs = list(zip(images, prompts, strict=True))
        wanted = [job for job in jobs if job[1]]
        answers = self._image_batches.run(wanted, self._segment_batch)
        return [next(answers) if asked else [] for _, asked in jobs]

    def _segment_batch(self, batch: Sequence[tuple[ImageU8, Sequence[Prompt]]]) -> list[list[Segment]]:
        import torch

        inputs = self._processor(images=[image for image, _ in batch], return_tensors="pt")
        with torch.inference_mode():
            levels = self._model.get_image_embeddings(inputs["pixel_values"].to(self._model.device))
        return [
            self._segment_one([level[row : row + 1] for level in levels], (image.shape[0], image.shape[1]), asked)
            for row, (image, asked) in enumerate(batch)
        ]

    def _segment_one(self, levels: Sequence[Any], size: tuple[int, int], asked: Sequence[Prompt]) -> list[Segment]:
        """Prompts of one kind go through the decoder together: a point that only fills up would be looked at, too."""
        kinds: dict[tuple[bool, int], list[int]] = {}
        for index, prompt in enumerate(asked):
            kinds.setdefault((prompt.box is not None, len(prompt.points)), []).append(index)
        segments: dict[int, Segment] = {}
        for indices in kinds.values():
            answers = self._prompt_batches.run(
                [asked[index] for index in indices], lambda part: self._decode(levels, size, part)
            )
            segments |= dict(zip(indices, answers, strict=True))
        return [segments[index] for index in range(len(asked))]

    def _decode(self, levels: Sequence[Any], size: tuple[int, int], asked: Sequence[Prompt]) -> list[Segment]:
        import torch
        from torch.nn import functional

        inputs = {
            name: torch.from_numpy(values[None]).to(self._model.device)
            for name, values in prompt_arrays(asked, size, self._side_px).items()
        }
        with torch.inference_mode():
            answer = self._model(image_embeddings=list(levels), multimask_output=True, **inputs)
            ious, logits = answer.iou_scores[0].float(), answer.pred_masks[0].float()  # (P, M), (P, M, h, w)
            check_finite(self._title(), ious=ious.cpu().numpy(), masks=logits.cpu().numpy())
            best = ious.argmax(dim=1)
            rows = torch.arange(len(asked), device=best.device)
            chosen = functional.interpolate(logits[rows, best][:, None], size, mode="bilinear", align_corners=False)
        masks, sure = (chosen[:, 0] > 0).cpu().numpy(), ious[rows, best].clamp(0, 1).cpu().numpy()
        return [Segment(mask, float(confidence)) for mask, confidence in zip(masks, sure, strict=True)]

    def _title(self) -> str:
        return f"{self.name} {self.revision}"


def check_prompt(prompt: Prompt) -> None:
    """Raises: ValueError for a prompt that points at nothing, or with a number that is not finite."""
    if prompt.box is None and not prompt.points:
        raise ValueError("a prompt needs a box or a point")
    numbers = [*(prompt.box or ()), *(value for x, y, _ in prompt.points for value in (x, y))]
    if not np.isfinite(numbers).all():
        raise ValueError(f"a prompt has numbers that are not finite: {numbers}")


def prompt_arrays(asked: Sequence[Prompt], size: tuple[int, int], side_px: int) -> dict[str, Any]:
    """What the models take for prompts of one kind, in the image: boxes (P, 4), points (P, N, 2), labels (P, N).

    size: height, width of the image, of which the model sees a square of `side_px`.
    """
    height_px, width_px = size
    scale = np.array([side_px / width_px, side_px / height_px], dtype=np.float32)
    limit = np.array([width_px, height_px], dtype=np.float32)
    arrays: dict[str, Any] = {}
    if asked[0].box is not None:
        corners = np.array([prompt.box for prompt in asked], dtype=np.float32).reshape(-1, 2, 2)
        arrays["input_boxes"] = (np.clip(corners, 0, limit) * scale).reshape(-1, 4)
    if asked[0].points:
        points = np.array([[point[:2] for point in prompt.points] for prompt in asked], dtype=np.float32)
        arrays["input_points"] = np.clip(points, 0, limit) * scale
        arrays["input_labels"] = np.array([[point[2] for point in prompt.points] for prompt in asked], dtype=np.int64)
    return arrays


def _side(image_size: Any) -> int:
    return int(image_size[0] if isinstance(image_size, (list, tuple)) else image_size)
