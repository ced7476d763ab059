"""The settings of a reward's training, all in one place."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.checkout import CHECKOUT
from schemas.errors import BadInput
from schemas.record import first_fault
from training.places import found_place, kept_place
from training.settings import read_toml

Supervision = Literal["regions", "image"]
Start = Literal["fresh", "shipped"]


class RewardConfig(BaseModel):
    """What a trained reward depends on. Where it is written, and how long it may take, are not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Annotated[str, Field(min_length=1, description="folder of the dataset, with its manifest.json")]
    use_source: Annotated[bool, Field(description="False: the source is zero, a rival that cannot compare")] = True
    use_instruction: Annotated[bool, Field(description="False: the instruction is empty, a rival that cannot read")] = (
        True
    )
    start: Annotated[
        Start, Field(description="fresh: random weights; shipped: those that come with the product, of the same eyes")
    ] = "fresh"
    supervision: Annotated[
        Supervision, Field(description="regions: every region's own scores; image: each gets its image's")
    ] = "regions"
    leave_out_sources: Annotated[
        tuple[str, ...], Field(description="names of sources: no row that shows one is trained or calibrated on")
    ] = ()
    leave_out_defects: Annotated[
        tuple[str, ...], Field(description="kinds of defects: no row that has one is trained or calibrated on")
    ] = ()
    side_px: Annotated[int, Field(ge=32, le=512, multiple_of=16, description="longest side that the network sees")] = (
        128
    )
    channels: Annotated[int, Field(ge=8, le=256, multiple_of=4, description="channels of the maps")] = 40
    text: Annotated[int, Field(ge=8, le=512, multiple_of=4, description="size of a word's embedding")] = 64
    hidden: Annotated[int, Field(ge=8, le=1024, description="size of the hidden layers")] = 160
    steps: Annotated[int, Field(ge=1, le=1_000_000, description="optimiser steps")] = 900
    batch_requests: Annotated[int, Field(ge=1, le=256, description="requests in a batch, each with its candidates")] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1, description="highest rate, after the warm-up")] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, le=1, description="decoupled weight decay")] = 0.02
    warmup_steps: Annotated[int, Field(ge=0, description="steps over which the rate rises")] = 50
    clip_norm: Annotated[float, Field(gt=0, description="longest gradient")] = 1.0
    image_weight: Annotated[float, Field(ge=0, description="weight of the image's scores")] = 0.5
    variance_weight: Annotated[float, Field(ge=0, description="weight of the variance's likelihood")] = 0.1
    ranking_weight: Annotated[float, Field(ge=0, description="weight of the ranking within requests")] = 0.2
    contrast_weight: Annotated[float, Field(ge=0, description="weight of sound above flawed over the batch")] = 0.3
    asked_weight: Annotated[float, Field(ge=0, description="weight of reading what is asked of a region")] = 0.3
    expected_weight: Annotated[float, Field(ge=0, description="weight of foreseeing how a region should look")] = 0.5
    rank_scale: Annotated[float, Field(gt=0, description="logits that a gap of the full score is worth")] = 10.0
    max_missing_share: Annotated[float, Field(ge=0, le=1, description="above it training does not start")] = 0.2
    checkpoint_steps: Annotated[int, Field(ge=1, description="steps between checkpoints")] = 200
    seed: Annotated[int, Field(ge=0, description="seed of weights, order and samples")] = 0
    threads: Annotated[int, Field(ge=1, le=256, description="CPU threads; part of the result's last digits")] = 2
    backbone: Annotated[
        str | None, Field(description="folder of a frozen vision model (transformers); none: the network's own eyes")
    ] = None


def parse_config(settings: dict[str, Any], thing: str) -> RewardConfig:
    """The config in `settings`. Raises: BadInput, naming the setting."""
    try:
        return RewardConfig.model_validate(settings)
    except ValidationError as error:
        raise BadInput(thing, first_fault(error), "see training/reward/config.py") from None


def load_config(path: Path | None, overrides: dict[str, Any]) -> RewardConfig:
    """The config in a TOML file with `overrides` over it; a relative backbone is the current folder's.

    Raises: BadInput, naming the file or the setting.
    """
    settings = with_absolute_backbone(read_toml(path) | overrides, Path())
    return parse_config(settings, str(path) if path else "settings")


def kept_settings(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings as the files of the reward in `folder` keep them: places in its run as paths from there."""
    given = {name: settings.get(name) for name in ("dataset", "backbone")}
    return settings | {name: kept_place(place, folder) for name, place in given.items() if isinstance(place, str)}


def found_settings(kept: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings in the files of the reward in `folder`, with the place of its backbone now.

    A relative one is of an earlier version, which trained in the checkout. The dataset, of which a trained reward needs
    nothing, stays as it was kept. Raises: BadInput where the backbone was in the run and the reward lies in none.
    """
    backbone = kept.get("backbone")
    if not isinstance(backbone, str):
        return kept
    return with_absolute_backbone(kept | {"backbone": found_place(backbone, folder)}, CHECKOUT)


def with_absolute_backbone(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """Settings with the folder of their backbone below `base` where it is relative."""
    backbone = settings.get("backbone")
    return settings | {"backbone": str(base.absolute() / backbone)} if isinstance(backbone, str) else settings
