"""The settings of a policy's training, all in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.specs import absolute_spec
from schemas.errors import BadInput
from schemas.record import first_fault
from training.places import found_place, kept_place, of_place
from training.settings import read_toml

Method = Literal["spatial", "global"]
Control = Literal["none", "permuted-masks", "permuted-advantages"]
AdvantageForm = Literal["floor", "group", "global"]
KlForm = Literal["gaussian", "flow-grpo"]
#: Setting -> the names of its specs whose places are folders.
_FOLDERS = {"policy": ("tiny", "klein")} | dict.fromkeys(("reward", "second_reward"), ("region", "untrained"))
Spec = Annotated[str, Field(min_length=1, max_length=1_000)]


class PolicyConfig(BaseModel):
    """Everything that determines a trained policy. The output folder and time limits are not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Annotated[str, Field(min_length=1, description="folder of the dataset, with its manifest.json")]
    policy: Annotated[Spec, Field(description="tiny, or klein:FOLDER, a FLUX.2-klein base checkpoint")] = "tiny"
    reward: Annotated[Spec, Field(description="oracle, constant:SCORE, region[:FOLDER] or endpoint:URL")] = "oracle"
    second_reward: Annotated[
        Spec | None,
        Field(description="a reward that training never sees, to catch hacking of the first; none: no watch"),
    ] = None
    method: Annotated[Method, Field(description="spatial: SpatialFlow-GRPO, by region; global: Flow-GRPO")] = "spatial"
    control: Annotated[
        Control, Field(description="a control arm of the spatial method: regions or advantages shuffled on purpose")
    ] = "none"

    updates: Annotated[int, Field(ge=1, le=1_000_000, description="rollouts with their optimiser steps")] = 40
    requests: Annotated[int, Field(ge=1, le=4_096, description="requests a rollout, over all processes")] = 8
    group: Annotated[int, Field(ge=2, le=256, description="samples of each request")] = 8
    passes: Annotated[int, Field(ge=1, le=64, description="times that the samples of one rollout are learnt from")] = 1
    optimizer_steps: Annotated[
        int, Field(ge=1, le=256, description="optimiser steps a pass: its requests are dealt to them")
    ] = 1
    sampling_steps: Annotated[int, Field(ge=2, le=1_000, description="steps of a rollout")] = 8
    trained_steps: Annotated[
        tuple[int, ...], Field(min_length=1, description="stochastic steps that are trained, 0 is the first")
    ] = (0, 1, 2)
    evaluation_steps: Annotated[int, Field(ge=1, le=1_000, description="steps of the ODE in tests")] = 8
    noise: Annotated[float, Field(gt=0, le=5, description="noise level a of the stochastic steps")] = 0.7

    learning_rate: Annotated[float, Field(gt=0, le=1, description="of AdamW, constant after the warm-up")] = 3e-4
    warmup_updates: Annotated[int, Field(ge=0, description="updates over which the rate rises")] = 0
    weight_decay: Annotated[float, Field(ge=0, le=1, description="decoupled weight decay")] = 1e-4
    clip_norm: Annotated[float, Field(gt=0, description="longest gradient")] = 1.0
    clip: Annotated[float, Field(gt=0, le=1, description="clip range eps of the ratio of probabilities")] = 1e-3
    scaled_clip: Annotated[bool, Field(description="eps by size of region and by step")] = True
    beta_edit: Annotated[float, Field(ge=0, description="weight of the KL inside edit regions")] = 0.0
    beta_background: Annotated[float, Field(ge=0, description="weight of the KL elsewhere")] = 0.0
    kl: Annotated[KlForm, Field(description="form of the KL: each needs betas of its own")] = "gaussian"
    lam: Annotated[
        float, Field(ge=0, le=1, description="share of a region's own advantage; the rest is the image's")
    ] = 0.7
    gamma: Annotated[float, Field(ge=0, le=1, description="weight of a region by area: 1 by area, 0 all equal")] = 0.5
    advantages: Annotated[AdvantageForm, Field(description="what an advantage is divided by")] = "floor"
    floor: Annotated[float, Field(ge=0, le=1, description="of the form `floor`, in rewards")] = 0.02
    lora_rank: Annotated[int, Field(ge=1, le=1_024, description="rank of the adapter")] = 16
    lora_alpha: Annotated[int, Field(ge=1, le=4_096, description="its scale: alpha / rank")] = 32
    guidance: Annotated[
        float | None, Field(ge=1, le=30, description="classifier-free guidance; none: the policy's")
    ] = None
    ema: Annotated[float, Field(ge=0, lt=1, description="decay of the averaged adapter that is tested and kept")] = 0.9

    evaluate_every: Annotated[int, Field(ge=1, description="updates between tests on held-out requests")] = 10
    evaluation_requests: Annotated[int, Field(ge=1, le=100_000, description="held-out requests a test")] = 64
    held_out_split: Annotated[
        Literal["validation", "test"], Field(description="the split that tests take their requests from")
    ] = "validation"
    min_regions: Annotated[int, Field(ge=1, le=64, description="requests with fewer regions are left out")] = 1
    sheet_every: Annotated[int, Field(ge=1, description="updates between sheets of samples, and curves")] = 10
    checkpoint_every: Annotated[int, Field(ge=1, description="updates between checkpoints")] = 5
    max_missing_share: Annotated[float, Field(ge=0, le=1, description="of rewards; above it training stops")] = 0.2
    reward_timeout_s: Annotated[float, Field(gt=0, description="how long a batch of rewards may take, in s")] = 120.0
    reward_threads: Annotated[int, Field(ge=1, le=64, description="batches of rewards asked for at once")] = 1
    stop_early: Annotated[bool, Field(description="whether signs of reward hacking end the training")] = True

    sample_batch: Annotated[int, Field(ge=1, le=4_096, description="samples at once in a rollout")] = 64
    train_batch: Annotated[int, Field(ge=1, le=4_096, description="samples at once with a gradient")] = 32
    dtype: Annotated[Literal["float32", "bfloat16"], Field(description="of the model; log-probs are float32")] = (
        "float32"
    )
    checkpointing: Annotated[bool, Field(description="gradient checkpointing: less memory, more time")] = False
    tensorboard: Annotated[bool, Field(description="whether figures go to <folder>/tensorboard, too")] = False
    seed: Annotated[int, Field(ge=0, description="seed of order, noise and adapter")] = 0
    threads: Annotated[int, Field(ge=1, le=256, description="CPU threads; part of the result's last digits")] = 2

    @model_validator(mode="after")
    def _fits(self) -> Self:
        steps = self.trained_steps
        if min(steps) < 0 or max(steps) > self.sampling_steps - 2:
            raise ValueError(f"trained_steps {list(steps)} are not all steps before the last of {self.sampling_steps}")
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"trained_steps {list(steps)} are not in rising order, each once")
        if self.beta_background < self.beta_edit:
            raise ValueError("beta_background is below beta_edit: the background is what must not move")
        if self.control != "none" and self.method != "spatial":
            raise ValueError("control is of the spatial method")
        if self.optimizer_steps > self.requests:
            raise ValueError("optimizer_steps are more than requests")
        return self


def load_config(path: Path | None, overrides: dict[str, Any]) -> PolicyConfig:
    """The config in a TOML file with `overrides` over it; relative folders are the current one's, and become absolute.

    Raises: BadInput, naming the file or the setting.
    """
    settings = read_toml(path) | overrides
    try:
        return PolicyConfig.model_validate(with_absolute_folders(settings))
    except ValidationError as error:
        remedy = "see training/policy/config.py"
        raise BadInput(str(path) if path else "settings", first_fault(error), remedy) from None


def with_absolute_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as `load_config` makes them: a policy's files are read from other folders than it was trained in."""
    given = {name: settings.get(name) for name in _FOLDERS}
    here = {name: absolute_spec(s, _FOLDERS[name], Path()) for name, s in given.items() if isinstance(s, str)}
    return settings | here


def kept_settings(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings as the files of the policy in `folder` keep them: places in its run as paths from there."""
    kept = {"dataset": kept_place(settings["dataset"], folder)} if isinstance(settings.get("dataset"), str) else {}
    return settings | kept | _with_places(kept_place, settings, folder)


def found_settings(kept: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Kept settings with the places of now; the dataset, of which a trained policy needs nothing, as it was kept.

    Raises: BadInput where a place was in the run and the policy lies in none any more.
    """
    return kept | _with_places(found_place, kept, folder)


def _with_places(change: Callable[[str, Path], str], settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    given = {name: settings.get(name) for name in _FOLDERS}
    return {name: of_place(change, s, folder, _FOLDERS[name]) for name, s in given.items() if isinstance(s, str)}
