"""The commands that train, `train-reward` and `train-policy`, on a few rows and in a minute; torch is imported here."""

import json
from pathlib import Path

from tests.cases.builds import PLAIN_SCENES
from tests.cases.builds import build as build_here
from tests.cases.dataset_cases import of_few_rows
from tests.cases.policy_loop_cases import learnt, random_pipeline
from tests.cases.tiny_policy import quick
from tests.chaos.command import Command, counter_of, digest_of, without
from tests.chaos.commands import SCENES, Made, copy

REWARD = (
    "side_px=32", "channels=8", "text=8", "hidden=16", "threads=1", "batch_requests=2", "steps=14",
    "checkpoint_steps=1",
)  # fmt: skip


def train_reward(made: Made) -> Command:
    """`train-reward` of a network of no use, a checkpoint every step."""

    def write(folder: Path) -> None:
        build_here(folder / "all/run", SCENES.model_copy(update={"shard_samples": 100}))
        of_few_rows(folder / "all/run/dataset", folder / "few/run/dataset", requests=4, edits=2)

    few = made("few", write) / "few"
    state = "run/reward/training/state.json"

    def weights(place: Path) -> object:
        folder = place / "run/reward"
        curves = json.loads((folder / "curves.json").read_bytes())
        return {"weights": digest_of(folder / "reward.safetensors"), "curves": curves}

    return Command(
        name="train-reward",
        prepare=lambda place: copy(few, place),
        words=lambda place: ["train-reward", "--run", str(place / "run"), *_set(*REWARD)],
        progress=lambda place: counter_of(place / state, "step"),
        kept=lambda place: counter_of(place / state, "step"),
        made=weights,
        moments=(3, 4),
        tight_bytes=1_000_000,
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )


def train_policy(made: Made) -> Command:
    """`train-policy` of a tiny policy with random weights, a checkpoint every update."""
    base = made("tiny", lambda folder: random_pipeline(single_layers=1).save_pretrained(str(folder)))
    plain = made("plain", lambda folder: build_here(folder / "run", PLAIN_SCENES))
    changes: dict[str, object] = {"updates": 5, "checkpoint_every": 1, "sheet_every": 1_000, "evaluate_every": 1_000}
    settings = quick(base, **changes, stop_early=False, learning_rate=1e-3)
    state = "run/policy/policy/training/state.json"

    def weights(place: Path) -> object:
        found = learnt(place / "run/policy/policy")
        return found | {"state": without(found["state"], "config")}

    return Command(
        name="train-policy",
        prepare=lambda place: copy(plain, place),
        words=lambda place: ["train-policy", "--run", str(place / "run"), *_set(*settings)],
        progress=lambda place: counter_of(place / state, "update"),
        kept=lambda place: counter_of(place / state, "update"),
        made=weights,
        moments=(2, 1),
        tight_bytes=1_000_000,
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )


def _set(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]
