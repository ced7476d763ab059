"""The weights that come with the product: a reward and its blind rivals, trained on procedural scenes.

`weights/<folder>/` is a reward's folder with its weights in half precision. A training may start from them
(`start = "shipped"`), and the spec `region` without a folder is the one with all its eyes. `make reward-weights` makes
them anew: data by `examples/reward-weights-data.toml`, three trainings from random weights, and then this module.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.run.folder import read_build_info
from runtime.exits import failed
from schemas.errors import BadInput, RegionwiseError
from training.checkpoint import write_json
from training.reward.checkpoint import read_weights
from training.reward.config import RewardConfig
from training.reward.region_reward import RegionReward, load

WEIGHTS = Path(__file__).resolve().parent / "weights"
#: (use_source, use_instruction) -> folder below `WEIGHTS`, and below the trained reward that it is made from.
FOLDERS = {(True, True): ".", (False, True): "source-blind", (True, False): "instruction-blind"}

#: The settings of the build that say what the weights have seen.
_DATA = ("scenes", "scene_size_px", "k", "seed", "scene_textures", "leave_out_defects")


def shipped_folder(config: RewardConfig) -> Path:
    """Where the shipped weights with the eyes of `config` lie. Raises: BadInput where there are none."""
    folder = FOLDERS.get((config.use_source, config.use_instruction))
    if folder is None:
        raise BadInput("start", "is 'shipped', and none is shipped that lacks source and instruction", "start fresh")
    return WEIGHTS / folder


def start_from_shipped(network: nn.Module, config: RewardConfig) -> None:
    """Puts the shipped weights into a network of `config`.

    Raises: BadInput where they have seen what `config` leaves out, or fit another network.
    """
    folder = shipped_folder(config)
    if config.supervision != "regions":
        fault = f"have learnt from the scores of regions, and supervision is {config.supervision!r}"
        raise BadInput("the shipped weights", fault, "set start = 'fresh'")
    seen = sorted(set(config.leave_out_defects) - set(provenance()["data"]["leave_out_defects"]))
    if seen:
        raise BadInput("the shipped weights", f"have seen the defect {seen[0]}", "set start = 'fresh' to leave it out")
    read_weights(folder / "reward.safetensors", network)


def provenance() -> dict[str, Any]:
    """How the shipped weights were made: `data` (the settings of the build), `trainings` by folder, `synthetic`."""
    return dict(json.loads((WEIGHTS / "made.json").read_bytes()))


def ship(run: Path, out: Path = WEIGHTS) -> list[Path]:
    """Writes a run's reward and its rivals, in half precision, and how they were made. Returns the folders.

    Raises: BadInput where one of them is not trained.
    """
    written, trainings = [], {}
    for folder in FOLDERS.values():
        trained = run / "reward" / folder
        reward = load(trained)
        metrics = json.loads((trained / "training.json").read_bytes())
        trainings[folder] = {
            name: metrics[name] for name in ("steps", "n_requests", "n_train", "n_validation", "train_s")
        }
        halves = {name: tensor.half() for name, tensor in reward.network.state_dict().items()}
        reward.network.load_state_dict(halves)
        neutral = reward.config.model_copy(update={"dataset": "runs/reward-weights/dataset"})
        RegionReward(reward.name, reward.network, neutral, reward.calibrations).save(out / folder, torch.float16)
        written.append(out / folder)
    config = read_build_info(run).config
    data = {name: config[name] for name in _DATA}
    facts = {"schema": "shipped-reward/1", "synthetic": True, "data": data, "trainings": trainings}
    write_json(out / "made.json", facts | {"made_by": "make reward-weights"})
    return written


def main() -> int:
    """Ships what `regionwise train-reward --with-rivals` left in a run. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.reward.shipped", description=main.__doc__)
    parser.add_argument("run", type=Path, help="the run")
    try:
        for folder in ship(parser.parse_args().run):
            print(folder.relative_to(WEIGHTS.parent))
    except (RegionwiseError, OSError) as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
