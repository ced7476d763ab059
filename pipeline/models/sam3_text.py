"""The detector `sam3:FOLDER`: SAM 3's search for what a phrase names, by transformers, from a local folder.

Each phrase is asked alone; an image is encoded once for all its phrases. Its masks are not used here: `sam3` as a
prompted segmenter (`sam_transformers.py`) makes them of the boxes. Nothing is fetched.
"""

from collections.abc import Sequence
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
from pipeline.models.detections import DetectSettings, Floats, RawDetections, check_finite, select_detections
from pipeline.models.devices import choose_device
from pipeline.models.protocols import Detection
from pipeline.models.revisions import revision_of
from runtime.images import ImageU8

NAME = "sam3"
PAGE = "https://huggingface.co/facebook/sam3"
#: A folder of the whole model says `sam3_video`: detector and tracker together.
MODEL_TYPES = ("sam3", "sam3_video")
#: SAM 3's own value; its score says of one phrase whether it is there and where, so both thresholds are one.
SETTINGS = DetectSettings(box_threshold=0.5, score_threshold=0.5)


def load(place: Path, device: str = "cpu", settings: DetectSettings | None = None) -> "Sam3Detector":
    """The detector of a folder. Raises: BadInput, naming the file that is missing or does not fit; MissingPackage."""
    go_offline()
    sources = files(place)
    transformers = require_package("transformers", NAME, "pip install transformers torch torchvision")
    tokenizer = load_local(transformers.AutoTokenizer, place, "tokenizer", PAGE)
    processor = load_local(transformers.Sam3ImageProcessor, place, "image processor", PAGE)
    torch_device = choose_device(device, f"{NAME}:{place}")
    model = load_folder(transformers.Sam3Model, place).to(torch_device)
    return Sam3Detector(model, tokenizer, processor, revision_of(sources), settings or SETTINGS)


def files(place: Path) -> list[Path]:
    """What a detector is made of. Raises: BadInput, naming the file that is missing or does not fit."""
    return folder_files(place, MODEL_TYPES, PAGE)


class Sam3Detector:
    """A `pipeline.models.protocols.Detector` over transformers' Sam3Model."""

    name = NAME

    def __init__(self, model: Any, tokenizer: Any, processor: Any, revision: str, settings: DetectSettings) -> None:
        self.revision, self.settings = revision, settings
        self._model, self._tokenizer, self._processor = model, tokenizer, processor
        self._image_batches = ShrinkingBatches(settings.batch_size, self.name)
        self._phrase_batches = ShrinkingBatches(settings.batch_size, self.name)
        self._tokens = int(model.config.text_config.max_position_embeddings)

    def detect(self, images: Sequence[ImageU8], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """For each image the things found for its phrases, best first; boxes are finite and inside the image.

        Raises: BadInput where the model answers NaN; OutOfMemory where one image does not fit into memory.
        """
        jobs = [
            (image, [(index, phrase) for index, phrase in enumerate(asked) if phrase.strip()])
            for image, asked in zip(images, phrases, strict=True)
        ]
        return list(self._image_batches.run(jobs, self._detect_batch))

    def _detect_batch(self, batch: Sequence[tuple[ImageU8, list[tuple[int, str]]]]) -> list[list[Detection]]:
        found: list[list[RawDetections]] = [[] for _ in batch]
        pairs = [(row, index, phrase) for row, (_, asked) in enumerate(batch) for index, phrase in asked]
        if pairs:
            seen = self._encode_images([image for image, _ in batch])
            answers = self._phrase_batches.run(
                pairs,
                lambda part: self._score_phrases(seen, [row for row, _, _ in part], [phrase for _, _, phrase in part]),
            )
            for (row, index, _), (boxes, scores) in zip(pairs, answers, strict=True):
                height_px, width_px = batch[row][0].shape[:2]
                asked_for = np.full(len(scores), index, dtype=np.intp)
                found[row].append(
                    RawDetections(boxes * [width_px, height_px, width_px, height_px], scores, scores, asked_for)
                )
        sizes = [image.shape for image, _ in batch]
        return [
            select_detections(parts, shape[1], shape[0], self.settings)
            for parts, shape in zip(found, sizes, strict=True)
        ]

    def _encode_images(self, images: Sequence[ImageU8]) -> Any:
        import torch

        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._model.device)
        with torch.inference_mode():
            return self._model.get_vision_features(pixel_values=pixels)

    def _score_phrases(self, seen: Any, rows: Sequence[int], phrases: Sequence[str]) -> list[tuple[Floats, Floats]]:
        """Boxes (Q, 4) in shares of the image and scores (Q,) of every phrase on its image."""
        import torch

        features = type(seen)(
            fpn_hidden_states=tuple(level[list(rows)] for level in seen.fpn_hidden_states),
            fpn_position_encoding=tuple(level[list(rows)] for level in seen.fpn_position_encoding),
        )
        text = self._tokenizer(
            list(phrases), padding="max_length", max_length=self._tokens, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            answer = self._model(
                vision_embeds=features, input_ids=text["input_ids"], attention_mask=text["attention_mask"]
            )
        scores = (answer.pred_logits.sigmoid() * answer.presence_logits.sigmoid()).float().cpu().numpy()
        boxes = answer.pred_boxes.float().cpu().numpy()
        check_finite(f"{self.name} {self.revision}", boxes=boxes, scores=scores)
        return list(zip(boxes, scores, strict=True))
