"""The settings of the segmenter's training, all in one place.

The shipped weights were made with these but for `steps`: how long they were trained stands in their metadata (`steps`,
and `lengths` where the schedule was made shorter or longer on the way).
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipeline.models.sam_architectures import ARCHITECTURES

#: The sizes of `sam:tiny`.
TINY = ARCHITECTURES["tiny"]


class SegmenterConfig(BaseModel):
    """Everything that determines the weights, beside `TINY`. The output folder and time limits are not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: Annotated[int, Field(ge=8, description="training pictures made beforehand, half scenes, half pasted")] = 8_000
    steps: Annotated[int, Field(ge=1, description="optimiser steps")] = 4_400
    batch_images: Annotated[int, Field(ge=1, description="pictures in a step")] = 8
    prompts: Annotated[int, Field(ge=1, description="prompts on each picture of a step")] = 4
    point_share: Annotated[float, Field(ge=0, le=1, description="share of the prompts that are one point")] = 0.15
    exact_share: Annotated[float, Field(ge=0, le=1, description="share of the boxes that are tight; others jitter")] = (
        0.4
    )
    padded_share: Annotated[float, Field(ge=0, le=1, description="share of the pictures cut to a rectangle")] = 0.15
    learning_rate: Annotated[float, Field(gt=0, le=1, description="highest rate, after the warm-up")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1, description="decoupled, on matrices only")] = 0.02
    warmup_steps: Annotated[int, Field(ge=0, description="steps over which the rate rises")] = 200
    clip_norm: Annotated[float, Field(gt=0, description="longest gradient")] = 1.0
    dice_from: Annotated[int, Field(ge=0, description="step from which dice joins: earlier it empties masks")] = 300
    averaging: Annotated[float, Field(ge=0, lt=1, description="decay of the average of weights that is shipped")] = (
        0.998
    )
    bf16: Annotated[bool, Field(description="autocast; faster where the CPU multiplies bf16")] = True
    checkpoint_steps: Annotated[int, Field(ge=1, description="steps between checkpoints")] = 200
    seed: Annotated[int, Field(ge=0, description="seed of pictures, weights, order and prompts")] = 0
    threads: Annotated[int, Field(ge=1, le=256, description="CPU threads; part of the result's last digits")] = 1
