"""How unsure a reward is of each candidate of a run: `python -m training.scoring.uncertainty --run --reward --out`.

One JSON object a line:

    {"candidate": ..., "reward_std": ..., "mask_doubt": ...}

| field | of every candidate that the gates kept |
|---|---|
| `reward_std` | largest standard deviation of the scores of its regions and its background, points of 25 |
| `mask_doubt` | 1 less the lowest confidence of its observed masks, 0..1 |

Either is null where nobody knows it: a reward without uncertainty, a candidate without masks.
`annotation.raters.routing` says what such a candidate counts as. The file comes as a whole.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.run.folder import read_build_info, read_kept
from pipeline.run.image_store import read_image
from runtime.disk import require_place
from runtime.exits import failed
from runtime.files import write_whole
from runtime.images import resize_image
from runtime.masks import rle_to_mask
from schemas.errors import RegionwiseError
from schemas.region import ObservedMask
from schemas.sample import Sample
from training.predictions import ask, in_chunks, usable
from training.reward_protocol import Prediction, Reward, RewardQuery
from training.reward_registry import make_reward

CHUNK = 32


def reward_std(prediction: Prediction) -> float | None:
    """The largest standard deviation among the scores of regions and background, points of 25; None without any."""
    scores = [score for region in prediction.regions.values() for score in (region.success, region.preserve)]
    known = [score.std for score in map(usable, [*scores, prediction.background]) if score.std is not None]
    return max(known, default=None)


def mask_doubt(masks: Sequence[ObservedMask]) -> float | None:
    """1 less the lowest confidence, 0..1; None without a mask."""
    return 1 - min(mask.confidence for mask in masks) if masks else None


def values_of_run(run: Path, reward: Reward) -> Iterator[dict[str, object]]:
    """A line for every candidate that the gates kept, in the run's order. Raises: DamagedFile."""
    samples = (sample for part in range(read_build_info(run).n_parts) for sample in read_kept(run, "gates", part))
    for chunk in in_chunks(samples, CHUNK):
        predictions = ask(reward, [_query(run, sample) for sample in chunk])
        for sample, prediction in zip(chunk, predictions, strict=True):
            yield {
                "candidate": sample.key.partition("-")[2],
                "reward_std": reward_std(prediction),
                "mask_doubt": mask_doubt(sample.observed),
            }


def _query(run: Path, sample: Sample) -> RewardQuery:
    """What is asked of a kept sample: all its observed masks, source and edited image of one size."""
    if sample.edited is None:
        raise ValueError(f"{sample.key} has no candidate")
    source, edited = read_image(run, sample.sources[0]), read_image(run, sample.edited)
    height, width = edited.shape[:2]
    masks = {mask.region: rle_to_mask(mask.mask) for mask in sample.observed}
    return RewardQuery(resize_image(source, width, height), edited, sample.request.instruction, masks)


def main(arguments: list[str] | None = None) -> int:
    """The process: values into a file, how many and how many are known as JSON on stdout. Returns: exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.scoring.uncertainty", description="How unsure a reward is."
    )
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--reward", required=True, help="region, region:FOLDER, endpoint:URL")
    parser.add_argument("--out", type=Path, required=True, help="the file (JSONL)")
    given = parser.parse_args(arguments)
    try:
        require_place(given.out)
        lines = list(values_of_run(given.run, make_reward(given.reward)))
        write_whole(given.out, "".join(json.dumps(line) + "\n" for line in lines))
    except (RegionwiseError, OSError) as error:
        return failed(error)
    known = sum(line["reward_std"] is not None for line in lines)
    print(json.dumps({"candidates": len(lines), "with_reward_std": known}))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
