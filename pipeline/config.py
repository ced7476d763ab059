"""The settings of a build, all of them in one place; `build.toml` and the command line's flags fill it."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.editors.plugins import EMBEDDED, check_editor, is_embedded
from pipeline.editors.procedural import ProceduralEditor
from pipeline.gates.measures import GateSettings
from pipeline.models.registry import MODEL_DETECTORS, PROMPT_SEGMENTERS
from pipeline.requests.scenes.plain import PLAIN
from pipeline.requests.scenes.textures import TEXTURES, check_textures
from runtime.specs import parse_spec
from schemas.errors import BadInput
from schemas.record import first_fault
from schemas.sample import ImageFormat

#: targets: regions come from the boxes that requests bring. difference: masks come from comparing pixels alone.
DETECTORS = ("targets", *MODEL_DETECTORS)
SEGMENTERS = ("difference", *PROMPT_SEGMENTERS)
#: They say where a build runs and when it stops, not what comes out: a run goes on with other values of them.
RUNTIME_SETTINGS = ("device", "batch_size", "model_timeout_s", "max_reject_share")
#: Settings of earlier versions; runs that have them are read without.
GONE_SETTINGS = ("gates.max_aspect_change", "gates.difference.max_shift_px")


class SplitShares(BaseModel):
    """The share of source images that goes to each split; together 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Annotated[float, Field(ge=0, le=1)] = 0.8
    validation: Annotated[float, Field(ge=0, le=1)] = 0.1
    test: Annotated[float, Field(ge=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the shares of train, validation and test must sum to 1")
        return self


def _as_text(value: object) -> object:
    return str(value) if type(value) is int else value


class BuildConfig(BaseModel):
    """What a build's result depends on, and `RUNTIME_SETTINGS`. Workers, Dask address and folder are not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    requests: Annotated[tuple[str, ...], Field(description="request files (JSONL, CSV, Parquet) or their folders")] = ()
    scenes: Annotated[int, Field(ge=0, description="procedural scenes to add")] = 0
    scene_size_px: Annotated[int, Field(ge=32, le=1024, description="side of a procedural scene")] = 128
    scene_renders: Annotated[int, Field(ge=1, le=16, description="renders of each scene: other light and texture")] = 1
    scene_textures: Annotated[tuple[str, ...], Field(description="of scenes; none: all; plain: no texture")] = ()
    leave_out_defects: Annotated[tuple[str, ...], Field(description="defects the procedural editor never puts in")] = ()
    size_px: Annotated[int, Field(ge=32, le=4096, description="longest side of a source, scaled down to it")] = 256
    k: Annotated[int, Field(ge=1, le=64, description="candidates per request")] = 4
    editor: Annotated[str, Field(description="makes the candidates: procedural, or a plug-in, as policy:FOLDER")] = (
        EMBEDDED
    )
    detector: Annotated[
        str, Field(description="finds what instructions without boxes name: targets (nothing) or name:checkpoint")
    ] = "targets"
    segmenter: Annotated[str, Field(description="finds masks: difference, and beside it name:checkpoint")] = (
        "difference"
    )
    device: Annotated[
        str,
        Field(pattern=r"^[^\s,]+(,[^\s,]+)*$", description="where models run: cpu, cuda:0,cuda:1, or auto: all GPUs"),
    ] = "cpu"
    batch_size: Annotated[
        str, BeforeValidator(_as_text), Field(description="images that a model takes at a time: auto or a number")
    ] = "auto"
    model_timeout_s: Annotated[
        float, Field(gt=0, description="seconds after which a model that loads or answers is given up")
    ] = 900.0
    seed: Annotated[int, Field(ge=0, description="seed of scenes, edits and splits")] = 0
    part_requests: Annotated[int, Field(ge=1, le=10_000, description="requests in a part")] = 256
    image_format: Annotated[
        ImageFormat, Field(description="png is lossless, jpeg (q95, 4:4:4) a third of its size")
    ] = "png"
    shard_samples: Annotated[int, Field(ge=1, le=100_000, description="most samples in one tar of the dataset")] = 1024
    max_reject_share: Annotated[float, Field(ge=0, le=1, description="above it the build ends with exit code 3")] = 0.5
    splits: SplitShares = SplitShares()
    gates: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        if not self.requests and not self.scenes:
            raise ValueError("nothing to build from: name a request file (requests) or a number of scenes")
        if self.scene_textures != (PLAIN,):
            check_textures(self.scene_textures or TEXTURES)
        ProceduralEditor(self.leave_out_defects)
        check_editor(self.editor)
        if self.leave_out_defects and not is_embedded(self.editor):
            raise ValueError("leave_out_defects is of the editor procedural; leave it out, or the other editor")
        parse_spec(self.segmenter, SEGMENTERS, "segmenter")
        parse_spec(self.detector, DETECTORS, "detector")
        if self.batch_size != "auto" and not re.fullmatch(r"[1-9][0-9]{0,4}", self.batch_size):
            raise ValueError(f"batch_size is {self.batch_size[:20]!r}, must be auto or a number from 1")
        return self


def load_config(path: Path | None, overrides: dict[str, Any]) -> BuildConfig:
    """The config in a TOML file with `overrides` over it. Raises: BadInput, naming the file or the setting."""
    settings = _read_toml(path) if path else {}
    try:
        return BuildConfig.model_validate(settings | overrides)
    except ValidationError as error:
        raise BadInput(
            str(path) if path else "settings",
            first_fault(error, BuildConfig.model_fields),
            "see `regionwise build --help`",
        ) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(str(path), "does not exist", "give the path of a TOML file") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BadInput(str(path), f"cannot be read: {error}", "mend the file") from None
