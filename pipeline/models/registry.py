"""Detectors and prompted segmenters by their spec, `name:place`; what a name needs is imported when it is asked for.

| detector | model | place |
|---|---|---|
| `groundingdino:PATH` | the package groundingdino-py | its `.pth`, or the `.safetensors` of `regionwise convert` |
| `grounding-dino:PATH` | transformers' GroundingDino | a folder |
| `sam3:PATH` | transformers' SAM 3 with text prompts | a folder |

| prompted segmenter | model | place |
|---|---|---|
| `sam:PATH`, `sam:tiny` | the package segment-anything | its `.pth` or `.safetensors`; the weights shipped here |
| `sam2:PATH`, `sam3:PATH` | transformers' SAM 2, SAM 3 | a folder |
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.models.cache import ModelCache
from pipeline.models.detections import DetectSettings
from pipeline.models.protocols import Detector, PromptSegmenter
from pipeline.models.revisions import ModelSource, settings_of_answers
from runtime.specs import parse_spec
from schemas.errors import BadInput

if TYPE_CHECKING:
    from pipeline.models.sam import SamSettings

#: What a spec may name, in the order in which messages list them; `_DETECTORS` and `_SEGMENTERS` make them.
MODEL_DETECTORS = ("groundingdino", "grounding-dino", "sam3")
PROMPT_SEGMENTERS = ("sam", "sam2", "sam3")
#: Images that a model looks at at a time; `auto` is the model's own choice. Either is halved where memory runs out.
BatchSize = int | Literal["auto"]
#: Embeddings that `sam` keeps, so that a source is encoded once for its candidates and for the way back.
CACHED_IMAGES = 64
_LOADED_DETECTOR: ModelCache[Detector] = ModelCache()
_LOADED_SEGMENTER: ModelCache[PromptSegmenter] = ModelCache()


def make_detector(
    spec: str, device: str = "cpu", settings: DetectSettings | None = None, batch_size: BatchSize = "auto"
) -> Detector:
    """The detector of a spec. settings: None for the model's own.

    Raises: BadInput for a spec that is not known, misses its place, or names a bad one; MissingPackage.
    """
    name, place = parse_spec(spec, MODEL_DETECTORS, "detector")
    return _DETECTORS[name](place, device, settings, batch_size)


def make_prompt_segmenter(spec: str, device: str = "cpu", batch_size: BatchSize = "auto") -> PromptSegmenter:
    """The prompted segmenter of a spec. Raises: as `make_detector`."""
    name, place = parse_spec(spec, PROMPT_SEGMENTERS, "segmenter")
    return _SEGMENTERS[name](place, device, batch_size)


def detector_source(spec: str) -> ModelSource:
    """The files and settings of a spec's detector; nothing of it is loaded. Raises: as `make_detector`."""
    name, place = parse_spec(spec, MODEL_DETECTORS, "detector")
    from pipeline.models import groundingdino, groundingdino_transformers, sam3_text

    adapter = {"groundingdino": groundingdino, "grounding-dino": groundingdino_transformers, "sam3": sam3_text}[name]
    path = _path(f"detector {name}", place, adapter.PAGE)
    settings = settings_of_answers(sam3_text.SETTINGS if name == "sam3" else DetectSettings())
    return ModelSource(name, _folder(path), tuple(adapter.files(path)), settings)


def prompt_segmenter_source(spec: str) -> ModelSource:
    """The files and settings of a spec's prompted segmenter. Raises: as `make_detector`."""
    name, place = parse_spec(spec, PROMPT_SEGMENTERS, "segmenter")
    if name == "sam":
        from pipeline.models.sam_files import checkpoint_path

        path = checkpoint_path(place)
        return ModelSource(name, path.parent, (path,), settings_of_answers(_sam_settings(place)))
    from pipeline.models.sam_transformers import FAMILIES, files

    path = _path(f"segmenter {name}", place, FAMILIES[name].page)
    return ModelSource(name, path, tuple(files(FAMILIES[name], path)), {})


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def loaded_detector(spec: str, device: str, batch_size: BatchSize) -> Detector:
    """As `make_detector`; in one process the same files are loaded once."""
    return _LOADED_DETECTOR.get(spec, (device, batch_size), lambda: make_detector(spec, device, batch_size=batch_size))


def loaded_prompt_segmenter(spec: str, device: str, batch_size: BatchSize) -> PromptSegmenter:
    """As `make_prompt_segmenter`; in one process the same files are loaded once."""
    return _LOADED_SEGMENTER.get(spec, (device, batch_size), lambda: make_prompt_segmenter(spec, device, batch_size))


def _path(what: str, place: str | None, page: str) -> Path:
    if place is None:
        name = what.split()[1]
        remedy = f"download it from {page} and write {name}:PATH; nothing is fetched here"
        raise BadInput(what, "does not say where its checkpoint is", remedy)
    return Path(place)


def _with_batch_size(settings: DetectSettings, batch_size: BatchSize) -> DetectSettings:
    return settings if batch_size == "auto" else replace(settings, batch_size=batch_size)


def _groundingdino(
    place: str | None, device: str, settings: DetectSettings | None, batch_size: BatchSize
) -> Detector:  # fmt: skip
    from pipeline.models.groundingdino import PAGE, load

    path = _path("detector groundingdino", place, PAGE)
    return load(path, device, _with_batch_size(settings or DetectSettings(), batch_size))


def _grounding_dino(
    place: str | None, device: str, settings: DetectSettings | None, batch_size: BatchSize
) -> Detector:  # fmt: skip
    from pipeline.models.groundingdino_transformers import PAGE, load

    path = _path("detector grounding-dino", place, PAGE)
    return load(path, device, _with_batch_size(settings or DetectSettings(), batch_size))


def _sam3_text(place: str | None, device: str, settings: DetectSettings | None, batch_size: BatchSize) -> Detector:
    from pipeline.models.sam3_text import PAGE, SETTINGS, load

    return load(_path("detector sam3", place, PAGE), device, _with_batch_size(settings or SETTINGS, batch_size))


def _sam(place: str | None, device: str, batch_size: BatchSize) -> PromptSegmenter:
    from pipeline.models.sam import load_sam

    settings = replace(_sam_settings(place), device=device, batch_size=batch_size, cached_images=CACHED_IMAGES)
    return load_sam(place, settings)


def _sam_settings(place: str | None) -> "SamSettings":
    from pipeline.models.sam import SamSettings

    return SamSettings(multimask="always" if place == "tiny" else "ambiguous")


def _transformers_sam(name: str) -> Callable[[str | None, str, BatchSize], PromptSegmenter]:
    def make(place: str | None, device: str, batch_size: BatchSize) -> PromptSegmenter:
        from pipeline.models.sam_transformers import FAMILIES, SegmentSettings, load

        family = FAMILIES[name]
        settings = None if batch_size == "auto" else SegmentSettings(images=batch_size)
        return load(family, _path(f"segmenter {name}", place, family.page), device, settings)

    return make


_DETECTORS: dict[str, Callable[[str | None, str, DetectSettings | None, BatchSize], Detector]] = {
    "groundingdino": _groundingdino,
    "grounding-dino": _grounding_dino,
    "sam3": _sam3_text,
}
_SEGMENTERS: dict[str, Callable[[str | None, str, BatchSize], PromptSegmenter]] = {
    "sam": _sam,
    "sam2": _transformers_sam("sam2"),
    "sam3": _transformers_sam("sam3"),
}
