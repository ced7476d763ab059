"""Trains `sam:tiny` from random weights: `python -m training.segmenter.train --out FOLDER [--set steps=5000]`.

Flat on purpose, top to bottom: pictures, network, steps, weights. Killed and started again, it goes on from its last
checkpoint with the same steps; with another `steps` it goes on towards that end. The averaged weights lie in
FOLDER/sam_tiny.safetensors from the first checkpoint on; what they are worth says `training.segmenter.evaluate`.
Left out: a GPU, several processes, early stopping.
"""

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.models.sam_architectures import SamSizes
from runtime.checkout import checkout_commit
from runtime.exits import failed
from schemas.errors import BadInput, RegionwiseError
from training.output_folder import bytes_of, held, look_for_room
from training.segmenter.batches import draw_batch
from training.segmenter.checkpoint import (
    Progress,
    missing_pool_bytes,
    pool_in,
    restore_state,
    write_state,
    write_weights,
)
from training.segmenter.config import TINY, SegmenterConfig
from training.segmenter.model import Parts, forward, new_sam, objective, parameter_groups
from training.settings import setting

log = logging.getLogger(__name__)
WEIGHTS = "sam_tiny.safetensors"
_HISTORY_STEPS = 50


def train_segmenter(
    config: SegmenterConfig,
    out: Path,
    max_minutes: float | None = None,
    on_step: Callable[[int], None] = lambda _: None,
    sizes: SamSizes = TINY,
) -> dict[str, Any]:
    """Trains into `out`; returns the steps done, the seconds they took and the last logged losses.

    max_minutes: at most so long for this call's steps. on_step: told the number of steps done, after each.
    sizes: of the network.
    Raises: RunConflict where `out` was trained with another config but its length; BadInput for a damaged checkpoint;
    CheckpointFailed where `out` cannot be written or the disk is full.
    """
    # 1. Network, and pictures, all in memory.
    torch.set_num_threads(config.threads)
    sam = new_sam(sizes, config.seed)
    needed = 9 * bytes_of(sam.state_dict())  # the weights, a checkpoint with average and moments, and the one before
    look_for_room(out, needed + missing_pool_bytes(out, config))
    pool = pool_in(out, config)
    log.info("%d pictures", len(pool))

    # 2. Optimiser, and where it stood: fresh or from the last checkpoint.
    optimizer = torch.optim.AdamW(
        parameter_groups(sam, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
    )
    progress = Progress(sam, optimizer)
    made_by = facts(config)
    restore_state(out, config, progress)

    # 3. Steps.
    started, sums = time.monotonic(), np.zeros(len(Parts._fields))
    while progress.step < config.steps:
        if max_minutes is not None and time.monotonic() - started > 60 * max_minutes:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress.step)
        batch = draw_batch(pool, config, sizes, progress.step)
        masks, rated = forward(sam, batch, bf16=config.bf16)
        parts = objective(masks, rated, batch.targets, dice_weight(config, progress.step))
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(sam.parameters(), config.clip_norm)
        optimizer.step()
        progress.step += 1
        progress.averaged(config.averaging)
        sums += [part.detach().item() for part in parts]
        if progress.step % _HISTORY_STEPS == 0:
            means = (sums / _HISTORY_STEPS).round(4).tolist()
            progress.history.append({"step": progress.step, **dict(zip(Parts._fields, means, strict=True))})
            sums[:] = 0
            log.info("%.0f s: %s", time.monotonic() - started, json.dumps(progress.history[-1]))
        if progress.step % config.checkpoint_steps == 0 and progress.step < config.steps:
            write_state(out, config, progress)
            write_weights(out / WEIGHTS, progress.average, sizes, made_by | progress_facts(progress))
        on_step(progress.step)

    # 4. Weights.
    write_state(out, config, progress)
    write_weights(out / WEIGHTS, progress.average, sizes, made_by | progress_facts(progress))
    last = progress.history[-1] if progress.history else {}
    return {"steps": progress.step, "seconds": round(time.monotonic() - started, 1), "last": last}


def facts(config: SegmenterConfig) -> dict[str, str]:
    """The provenance that is stored in the weights' file."""
    settings = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return {
        "name": "sam:tiny",
        "made_by": "python -m training.segmenter.train",
        "config": settings,
        "seed": str(config.seed),
        "commit": checkout_commit() or "unknown",
        "data": "synthetic: procedural scenes, and objects pasted on photographs",
    }


def progress_facts(progress: Progress) -> dict[str, str]:
    """The steps that the weights have seen, and the lengths that the schedule had (step -> length)."""
    return {"steps": str(progress.step), "lengths": json.dumps(progress.lengths)}


def learning_rate(config: SegmenterConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * rise * (0.02 + 0.49 * (1 + math.cos(math.pi * step / config.steps)))


def dice_weight(config: SegmenterConfig, step: int) -> float:
    """0, then rising to 1 over as many steps as it was 0."""
    return min(1.0, max(0.0, (step - config.dice_from) / max(1, config.dice_from)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns: exit code 0, or that of the error, with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.train", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the training; the same one goes on")
    parser.add_argument("--max-minutes", type=float, default=None, help="at most so long for the steps")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of the config")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        config = _config(given.set)
        with held(given.out):
            done = train_segmenter(config, given.out, given.max_minutes)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    print(json.dumps(done))
    return 0


def _config(settings: Sequence[str]) -> SegmenterConfig:
    try:
        return SegmenterConfig.model_validate(dict(setting(text) for text in settings))
    except ValueError as error:
        raise BadInput("--set", str(error).splitlines()[1], "see training/segmenter/config.py") from None


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
