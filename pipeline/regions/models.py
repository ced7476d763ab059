"""Detectors and prompted segmenters by their spec, `name:place`; what a name needs is imported when it is asked for.

| detector | model | place |
|---|---|---|
| `groundingdino:PATH` | the package groundingdino-py | its `.pth`, or the `.safetensors` of `regionwise convert` |
| `grounding-dino:PATH` | transformers' GroundingDino | a folder |
| `sam3:PATH` | transformers' SAM 3 with text prompts | a folder |

| prompted segmenter | model | place |
|---|---|---|
| `sam2:PATH`, `sam3:PATH` | transformers' SAM 2, SAM 3 | a folder |
"""

from collections.abc import Callable
from pathlib import Path

from pipeline.backends import Detector, PromptSegmenter, parse_spec
from pipeline.config import MODEL_DETECTORS, PROMPT_SEGMENTERS
from pipeline.regions.detect import DetectSettings
from schemas.errors import BadInput


def make_detector(spec: str, device: str = "cpu", settings: DetectSettings | None = None) -> Detector:
    """The detector of a spec. settings: None for the model's own.

    Raises: BadInput for a spec that is not known, misses its place, or names a bad one; MissingPackage.
    """
    name, place = _place(spec, MODEL_DETECTORS, "detector")
    return _DETECTORS[name](place, device, settings)


def make_prompt_segmenter(spec: str, device: str = "cpu") -> PromptSegmenter:
    """The prompted segmenter of a spec. Raises: as `make_detector`."""
    name, place = _place(spec, PROMPT_SEGMENTERS, "segmenter")
    return _SEGMENTERS[name](place, device)


def _place(spec: str, known: tuple[str, ...], what: str) -> tuple[str, Path]:
    name, place = parse_spec(spec, known, what)
    if place is None:
        raise BadInput(f"{what} {spec!r}", "does not say where its checkpoint is", f"write {name}:PATH")
    return name, Path(place)


def _groundingdino(place: Path, device: str, settings: DetectSettings | None) -> Detector:
    from pipeline.regions.groundingdino import load

    return load(place, device, settings)


def _grounding_dino(place: Path, device: str, settings: DetectSettings | None) -> Detector:
    from pipeline.regions.groundingdino_transformers import load

    return load(place, device, settings)


def _sam3_text(place: Path, device: str, settings: DetectSettings | None) -> Detector:
    from pipeline.regions.sam3_text import load

    return load(place, device, settings)


def _transformers_sam(name: str) -> Callable[[Path, str], PromptSegmenter]:
    def make(place: Path, device: str) -> PromptSegmenter:
        from pipeline.regions.sam_transformers import FAMILIES, load

        return load(FAMILIES[name], place, device)

    return make


_DETECTORS: dict[str, Callable[[Path, str, DetectSettings | None], Detector]] = {
    "groundingdino": _groundingdino,
    "grounding-dino": _grounding_dino,
    "sam3": _sam3_text,
}
#: `sam` (the package segment-anything, pipeline/regions/sam.py) takes its line here and its name in
#: `pipeline.config.PROMPT_SEGMENTERS`.
_SEGMENTERS: dict[str, Callable[[Path, str], PromptSegmenter]] = {
    "sam2": _transformers_sam("sam2"),
    "sam3": _transformers_sam("sam3"),
}
