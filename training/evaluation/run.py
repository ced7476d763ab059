"""Tests a reward and writes what the report shows: `python -m training.evaluation.run --reward SPEC --out FOLDER`.

Writes `metrics.json`, `predictions.jsonl` and `pictures/` into the folder, which for a run is `<run>/reward`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.editors.defects import DEFECT_KINDS
from runtime.disk import require_place
from runtime.exits import failed
from schemas.errors import BadInput, RegionwiseError
from schemas.reward import RewardMetrics
from training.evaluation.examples import write_examples
from training.evaluation.localisation_cases import HELD_OUT_SEED, scene_cases
from training.evaluation.reward_metrics import evaluate, read_photos, write_metrics
from training.reward_protocol import Reward
from training.reward_registry import make_reward

SOURCES, CASES_A_SOURCE = 100, 3
#: What the figures, the predictions and their pictures take at least.
LEAST_BYTES = 1 << 17


def write_tests(
    folder: Path,
    reward: Reward,
    rivals: Mapping[str, Reward],
    *,
    left_out: str | None = None,
    sources: int = SOURCES,
    probe_cases: int | None = None,
    extras: bool = False,
    seed: int = HELD_OUT_SEED,
) -> RewardMetrics:
    """All tests of `reward` on held-out scenes, written into `folder`; arguments as `evaluate` and `scene_cases`.

    Photographs come from `photos.json` in `folder`, where `benchmarks.reward` wrote one.
    Raises: BadInput for a defect that is not known, no sources, or a damaged `photos.json`.
    """
    if left_out is not None and left_out not in DEFECT_KINDS:
        raise BadInput(f"defect {left_out!r}", "is not known", f"choose from {', '.join(DEFECT_KINDS)}")
    if sources < 1:
        raise BadInput("sources", f"are {sources}", "test on one or more")
    photos = read_photos(folder)
    cases, unmade = scene_cases(sources, CASES_A_SOURCE, extras=extras, seed=seed)
    tested = evaluate(reward, cases, rivals, left_out=left_out, unmade=unmade, photos=photos, probe_cases=probe_cases)
    write_examples(folder, cases, tested.flawed)
    write_metrics(folder, tested.metrics)
    return tested.metrics


def main(arguments: list[str] | None = None) -> int:
    """The process: prints the figures on one line. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluation.run", description=__doc__)
    parser.add_argument("--reward", required=True, help="spec, as for `regionwise score`")
    parser.add_argument("--rival", action="append", default=[], metavar="NAME=SPEC", help="such as source_blind=...")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--left-out", default=None, help="the defect that training never saw")
    parser.add_argument("--sources", type=int, default=SOURCES, help=f"held-out scenes [default: {SOURCES}]")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="seed of the scenes, of no training scene")
    parser.add_argument("--extras", action="store_true", help="show the reward the masks of unplanned regions, too")
    given = parser.parse_args(arguments)
    try:
        require_place(given.out, LEAST_BYTES)
        rivals = {name: make_reward(spec) for name, spec in map(_rival, given.rival)}
        settings = {"left_out": given.left_out, "sources": given.sources, "extras": given.extras, "seed": given.seed}
        metrics = write_tests(given.out, make_reward(given.reward), rivals, **settings)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    shown = {"n_pairs", "localisation_auroc", "rivals", "ranking_accuracy", "calibration_error", "coverage"}
    print(metrics.model_dump_json(include=shown))
    return 0


def _rival(text: str) -> tuple[str, str]:
    name, sign, spec = text.partition("=")
    if not sign:
        raise BadInput(f"--rival {text!r}", "has no `=`", "write NAME=SPEC")
    return name, spec


if __name__ == "__main__":
    sys.exit(main())
