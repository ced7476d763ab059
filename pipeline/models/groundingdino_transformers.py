"""The detector `grounding-dino:FOLDER`: transformers' GroundingDino from a local folder. Nothing is fetched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.models.checkpoint import (
    folder_files,
    go_offline,
    load_folder,
    load_local,
    read_json,
    require_package,
)
from pipeline.models.detections import DetectSettings, Floats
from pipeline.models.devices import choose_device
from pipeline.models.grounding import GroundingDetector, Pixels, Preprocessing
from pipeline.models.groundingdino import offsets_of
from pipeline.models.revisions import revision_of
from schemas.errors import BadInput

NAME = "grounding-dino"
PAGE = "https://huggingface.co/IDEA-Research/grounding-dino-tiny"
PREPROCESSING = "preprocessor_config.json"
#: What transformers' class takes for the ends of phrases, whatever the tokenizer says.
_ENDS = ("[CLS]", "[SEP]", ".", "?")


def load(place: Path, device: str = "cpu", settings: DetectSettings | None = None) -> GroundingDetector:
    """The detector of a folder.

    Raises: BadInput, naming the file, where the folder misses one, or holds another model; MissingPackage.
    """
    go_offline()
    sources = files(place)
    transformers = require_package("transformers", NAME, "pip install transformers torch")
    tokenizer = load_local(transformers.BertTokenizerFast, place, "tokenizer", PAGE)
    preprocessing = read_preprocessing(place / PREPROCESSING)
    torch_device = choose_device(device, f"{NAME}:{place}")
    model = load_folder(transformers.GroundingDinoForObjectDetection, place)
    if tokenizer.convert_tokens_to_ids(list(_ENDS)) != model.model.special_tokens.tolist():
        fault = f"has another vocabulary than GroundingDINO's BERT: {', '.join(_ENDS)} have other numbers"
        raise BadInput(str(place), fault, f"download its tokenizer files from {PAGE}")
    answers = TransformersModel(model.to(torch_device), tokenizer)
    revision = revision_of(sources)
    return GroundingDetector(
        NAME, revision, answers, offsets_of(tokenizer), settings or DetectSettings(), preprocessing
    )


def files(place: Path) -> list[Path]:
    """What a detector is made of. Raises: BadInput, naming the file, where the folder misses one."""
    return folder_files(place, ("grounding-dino",), PAGE)


def read_preprocessing(path: Path) -> Preprocessing:
    """How images are scaled and normalised, of a `preprocessor_config.json`; the published values where there is none.

    Raises: BadInput where it says something else than two sides in pixels and three means and deviations.
    """
    if not path.is_file():
        return Preprocessing()
    said, usual = read_json(path), Preprocessing()
    size = said.get("size", {})
    try:
        mean, std = (
            tuple(map(float, said.get(name, value)))
            for name, value in (("image_mean", usual.mean), ("image_std", usual.std))
        )
        short_px = int(size.get("shortest_edge", usual.short_px))
        long_px = int(size.get("longest_edge", usual.long_px))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not 1 <= short_px <= long_px <= 16_384:
            raise ValueError("out of range")
    except (TypeError, ValueError, AttributeError) as error:
        raise BadInput(str(path), f"has a size, mean or std that cannot be used: {error}", "download it anew") from None
    return Preprocessing(short_px, long_px, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


class TransformersModel:
    """A `GroundingModel` around transformers' module."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer

    def answer(self, pixels: Pixels, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """See `GroundingModel`."""
        import torch

        device = self._model.device
        text = self._tokenizer(list(captions), padding="longest", return_tensors="pt").to(device)
        images = torch.from_numpy(pixels).to(device)
        with torch.inference_mode():
            answer = self._model(pixel_values=images, **text)
        return answer.pred_boxes.float().cpu().numpy(), answer.logits.float().cpu().numpy()
