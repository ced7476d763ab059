"""What the region reward is worth where its own tests do not reach; long, and each part by itself.

    python -m benchmarks.reward photos      --run RUN --config examples/reward.toml
    python -m benchmarks.reward supervision --run RUN --config examples/reward.toml
    python -m benchmarks.reward uncertainty --run RUN --config examples/reward.toml

RUN: a finished run, such as runs/demo. Killed and started again, a part goes on where it was: trainings and what was
tested of them lie in `--work`, and a training of other settings there is refused. Writes
`benchmarks/results/reward-PART.json`; where RUN/reward was trained with the same settings, `photos` also writes
RUN/reward/photos.json, from which `python -m training.evaluation.run` fills the photographs of metrics.json.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.result import write_result
from runtime.exits import failed
from schemas.errors import RegionwiseError
from training.reward.config import RewardConfig, load_config

PARTS = ("photos", "supervision", "uncertainty")
CASES, SOURCES, SEEDS, RATERS = 8, 150, 3, 5


def settings_of(given: argparse.Namespace) -> RewardConfig:
    """The settings of every training, as `regionwise train-reward` has them, and the command line's over them."""
    overrides: dict[str, Any] = {"dataset": str((given.run / "dataset").resolve()), "threads": given.threads}
    if given.steps is not None:
        overrides["steps"] = given.steps
    return load_config(given.config, overrides)


def _recorded(given: argparse.Namespace, config: RewardConfig, *without: str) -> dict[str, Any]:
    """The settings for the result, the run as it was named and not where it lies on this machine."""
    return {**config.model_dump(exclude={"dataset", *without}), "run": given.run.name}


def measure_photos(given: argparse.Namespace, config: RewardConfig, work: Path) -> None:
    """Leave-one-photo-out."""
    from benchmarks.reward_photos import as_photo_rows, leave_one_photo_out, photo_rows
    from training.evaluation.reward_metrics import write_photos

    tested = leave_one_photo_out(given.run, config, work, given.cases, given.photos)
    write_result("reward-photos", photo_rows(tested), settings=_recorded(given, config), cases_a_request=given.cases)
    if given.photos is None and is_of(given.run / "reward", config):
        write_photos(given.run / "reward", as_photo_rows(tested))


def is_of(folder: Path, config: RewardConfig) -> bool:
    """Whether the reward in `folder` was trained with these settings, but for the number of threads."""
    from training.checkpoint import read_document
    from training.reward.checkpoint import SCHEMA, VERSION
    from training.reward.config import kept_settings, parse_config

    path = folder / "reward.json"
    if not path.is_file():
        return False
    document = read_document(path, SCHEMA, VERSION, "train it anew")
    found = parse_config(document.get("config") or {}, str(path)).model_copy(update={"threads": config.threads})
    return found.model_dump(mode="json") == kept_settings(config.model_dump(mode="json"), folder)


def measure_supervision(given: argparse.Namespace, config: RewardConfig, work: Path) -> None:
    """Region training against whole-image training."""
    from benchmarks.reward_supervision import compare, supervision_rows, textures_seen

    seeds = range(given.seeds)
    found = compare(config, work, seeds, given.sources, 3)
    write_result(
        "reward-supervision",
        supervision_rows(found, seeds),
        settings=_recorded(given, config, "seed", "supervision"),
        seeds=list(seeds),
        sources=given.sources,
        test_textures_seen_in_training=textures_seen(given.run),
    )


def measure_uncertainty(given: argparse.Namespace, config: RewardConfig, work: Path) -> None:
    """Predicted uncertainty against the spread of raters."""
    from benchmarks.reward_uncertainty import measure

    rows = measure(given.run, config, work, given.raters)
    write_result("reward-uncertainty", rows, settings=_recorded(given, config), raters=given.raters, synthetic=True)


MEASURES = {"photos": measure_photos, "supervision": measure_supervision, "uncertainty": measure_uncertainty}


def main(arguments: list[str] | None = None) -> int:
    """One part. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--config", type=Path, default=None, help="settings of the trainings in TOML")
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps, instead of the file's")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads [default: 1]")
    parser.add_argument("--work", type=Path, default=None, help="where trainings lie [default: RUN/reward-proofs/PART]")
    parser.add_argument("--photos", type=int, default=None, help="photos: only the first so many")
    parser.add_argument("--cases", type=int, default=CASES, help=f"photos: cases a request [default: {CASES}]")
    parser.add_argument("--sources", type=int, default=SOURCES, help=f"supervision: scenes [default: {SOURCES}]")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"supervision: seeds [default: {SEEDS}]")
    parser.add_argument("--raters", type=int, default=RATERS, help=f"uncertainty: raters [default: {RATERS}]")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        work = given.work or given.run / "reward-proofs" / given.part
        MEASURES[given.part](given, settings_of(given), work)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
