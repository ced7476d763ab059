"""Trains the `region` reward from a dataset's tars: `python -m training.reward.train --out FOLDER --dataset DATASET`.

Flat on purpose, top to bottom: read, train, calibrate, write. Regression of every score, uncertainty-aware ranking
within requests, and two readings of the instruction (see `objective`). Killed and started again, it goes on from its
last checkpoint to the same weights; so does one whose minutes were up. Left out: several processes, mixed precision,
early stopping.
"""

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.dataset.shards import read_manifest
from runtime.exits import failed
from schemas.errors import BadInput, RegionwiseError
from schemas.score import SCORE_MAX
from training.checkpoint import write_json
from training.dataset_identity import DIGEST_FIELD, dataset_digest
from training.output_folder import bytes_of, held, look_for_room
from training.reward.batches import RewardBatch, by_request, collate, training_batches
from training.reward.calibration import Calibration, coverage, curve, expected_calibration_error, fit
from training.reward.checkpoint import read_metrics, read_state, restore_state, write_state
from training.reward.config import RewardConfig, load_config
from training.reward.data import UNKNOWN, Counts, TrainingItem, load_items
from training.reward.exclusions import left_out_keys
from training.reward.objective import LossWeights, Parts, objective, ordered_pairs
from training.reward.region_reward import IMAGE_NAMES, REGION_NAMES, RegionReward, make_network
from training.reward.shipped import start_from_shipped
from training.settings import setting

log = logging.getLogger(__name__)
_HISTORY_STEPS = 20
_EVALUATION_BATCH = 32


def train_reward(
    config: RewardConfig, out: Path, max_minutes: float | None = None, on_step: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Trains a reward into `out` and returns its metrics; a finished training of the same config is left as it is.

    max_minutes: at most so long for this call's steps; where it ends early the reward is written as it is by then, the
    metrics say `stopped: time`, and the next call goes on.
    on_step: called after each step with the number of steps done.
    Raises: RunConflict where `out` was trained with another config or dataset; CheckpointFailed where it cannot be
    written or the disk is full, at once where that is so from the start; BadInput where it is of another architecture,
    or nothing is left to train on; BadInput, TooManyRejected as `load_items` and `left_out_keys`.
    """
    # 1. The same numbers every time.
    started = time.monotonic()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    state = read_state(out, config)
    if state is not None and state["finished"]:
        return read_metrics(out)
    network = make_network(config)
    look_for_room(out, 7 * bytes_of(network.state_dict()))  # the reward, a checkpoint with moments, and the one before

    # 2. Data: whole requests, all in memory.
    dataset = Path(config.dataset)
    digest = dataset_digest(dataset)
    limits: dict[str, Any] = {"use_source": config.use_source, "max_missing_share": config.max_missing_share}
    left_out = left_out_keys(dataset, config.leave_out_sources, config.leave_out_defects)
    with threadpool_limits(1):  # small products: more threads only wait for one another
        items, counts = load_items(dataset, "train", config.side_px, **limits)
        held_out, held_out_counts = list[TrainingItem](), Counts()
        if any(shard.split == "validation" for shard in read_manifest(dataset).shards):
            held_out, held_out_counts = load_items(dataset, "validation", config.side_px, **limits)
    n_read = len(items) + len(held_out)
    items, held_out = ([item for item in read if item.key not in left_out] for read in (items, held_out))
    if not items:
        raise BadInput(str(dataset), "has no training row that is not left out", "leave out less")
    if config.supervision == "image":
        items, held_out = ([whole_image_scores(item) for item in read] for read in (items, held_out))
    groups = by_request(items)
    read_s = time.monotonic() - started

    # 3. Network and optimiser, fresh or from the last checkpoint.
    if config.start == "shipped" and state is None:
        start_from_shipped(network, config)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    first_step, history = 0, list[dict[str, float]]()
    if state is not None:
        restore_state(out, state, network, optimizer)
        first_step, history = state["step"], list(state["history"])

    # 4. Steps. What is random in a step hangs on seed and step alone, so a resumed training draws the same.
    weights = LossWeights(
        image=config.image_weight,
        variance=config.variance_weight,
        ranking=config.ranking_weight,
        contrast=config.contrast_weight,
        asked=config.asked_weight,
        expected=config.expected_weight,
    )
    network.train()
    step, train_started = first_step, time.monotonic()
    sums = np.array(state["sums"] if state is not None else [0.0] * len(Parts._fields))
    for chosen in training_batches(groups, config.batch_requests, config.seed, first_step, config.steps):
        if max_minutes is not None and time.monotonic() - train_started > 60 * max_minutes:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        batch = collate(chosen)
        noise = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        parts = objective(network(batch.inputs), batch, weights, noise, config.rank_scale)
        optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        step += 1
        sums += [part.detach().item() for part in parts]
        if step % _HISTORY_STEPS == 0:
            history.append({"step": step, **dict(zip(Parts._fields, (sums / _HISTORY_STEPS).round(5), strict=True))})
            sums[:] = 0
            log.info("step %d of %d: loss %.4f", step, config.steps, history[-1]["total"])
        if step % config.checkpoint_steps == 0 and step < config.steps:
            kept = {"step": step, "history": history, "sums": sums.tolist(), DIGEST_FIELD: digest}
            write_state(out, config, network, optimizer, kept, finished=False)
        on_step(step)
    train_s = time.monotonic() - train_started

    # 5. Calibration on the validation split, and what the reward is worth there.
    reward = RegionReward("region", network, config)
    metrics = calibrate(reward, held_out)
    reward.save(out)
    metrics |= {
        "steps": step,
        "stopped": "steps" if step == config.steps else "time",
        "n_train": len(items),
        "n_requests": len(groups),
        "n_validation": len(held_out),
        "n_left_out": n_read - len(items) - len(held_out),
        "scores_missing": counts.missing + held_out_counts.missing,
        "scores": counts.scores + held_out_counts.scores,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "read_s": round(read_s, 1),
        "train_s": round(train_s, 1),
        "revision": reward.revision,
    }
    write_json(out / "training.json", metrics)
    curves = {"history": history, "calibration": metrics["calibration"], "start": config.start}
    write_json(out / "curves.json", {"schema": "training-curves/1", **curves})
    kept = {"step": step, "history": history, "sums": sums.tolist(), DIGEST_FIELD: digest}
    write_state(out, config, network, optimizer, kept, finished=step == config.steps)
    return metrics


def learning_rate(config: RewardConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * rise * (0.02 + 0.49 * (1 + math.cos(math.pi * step / config.steps)))


def whole_image_scores(item: TrainingItem) -> TrainingItem:
    """`item` as whole-image training has it: every region gets the image's success and overedit for its own scores.

    What was done in a region is not known then, nor what another instruction would make of it.
    """
    scores = item.region_scores.copy()
    present = ~np.isnan(scores)
    image = np.broadcast_to(item.image_scores[[1, 2]], scores.shape)
    scores[present] = image[present]
    return replace(item, region_scores=scores, done=np.full_like(item.done, UNKNOWN), swaps=())


def calibrate(reward: RegionReward, items: list[TrainingItem]) -> dict[str, Any]:
    """Fits the reward's calibrations to `items`, and says by score how well it then fits, and how it ranks them.

    Every second request fits, the others measure, so that no figure comes from what it was fitted to; the calibration
    that is kept is fitted to all.
    """
    logits, log_variances, shares, groups = gathered(reward, items)
    report: dict[str, Any] = {"calibration": {}, "ranking": {}}
    errors, before = [], []
    for name, share in shares.items():
        present = ~np.isnan(share)
        half = present & (groups[name] % 2 == 0)
        other = present & ~half
        fitted = fit(logits[name][half], log_variances[name][half], share[half])
        mean, std = fitted.mean(logits[name][other]), fitted.std(log_variances[name][other])
        raw = Calibration().mean(logits[name][other])
        error, raw_error = (expected_calibration_error(m, share[other]) for m in (mean, raw))
        errors += [error] if error is not None else []
        before += [raw_error] if raw_error is not None else []
        report["calibration"][name] = {
            "n": int(other.sum()),
            "error": error,
            "error_uncalibrated": raw_error,
            "mean_absolute_error": SCORE_MAX * float(np.abs(mean - share[other]).mean()) if other.any() else None,
            "coverage_90": coverage(mean, std, share[other]),
            "curve": curve(mean, share[other]),
        }
        report["ranking"][name] = _pair_accuracy(logits[name], share, groups[name])
        reward.calibrations[name] = fit(logits[name][present], log_variances[name][present], share[present])
    report["calibration_error"] = float(np.mean(errors)) if errors else None
    report["calibration_error_uncalibrated"] = float(np.mean(before)) if before else None
    return report


Columns = dict[str, np.ndarray[Any, Any]]


def gathered(reward: RegionReward, items: list[TrainingItem]) -> tuple[Columns, Columns, Columns, Columns]:
    """(logits, log-variances, scores as shares, groups) by name, over all regions and images of `items`."""
    columns: tuple[dict[str, list[Any]], ...] = ({}, {}, {}, {})
    numbers = {request: n for n, request in enumerate(dict.fromkeys(item.request for item in items))}
    for start in range(0, len(items), _EVALUATION_BATCH):
        chunk = items[start : start + _EVALUATION_BATCH]
        batch = collate(chunk)
        with torch.inference_mode():
            outputs = reward.network(batch.inputs)
        request = torch.tensor([numbers[item.request] for item in chunk])
        _add(
            columns,
            REGION_NAMES,
            (outputs.region_logit, outputs.region_log_variance, batch.region_scores),
            batch,
            request,
        )
        _add(
            columns, IMAGE_NAMES, (outputs.image_logit, outputs.image_log_variance, batch.image_scores), batch, request
        )
    joined = [
        {name: np.concatenate(column.get(name, [np.empty(0)])) for name in (*REGION_NAMES, *IMAGE_NAMES)}
        for column in columns
    ]
    return joined[0], joined[1], joined[2], joined[3]


def _add(
    columns: Any, names: tuple[str, ...], tensors: tuple[torch.Tensor, ...], batch: RewardBatch, request: torch.Tensor
) -> None:
    for index, name in enumerate(names):
        flat = [tensor[..., index] for tensor in tensors]
        groups = request if flat[0].dim() == 1 else request[:, None].expand_as(flat[0])
        for column, values in zip(columns, (*flat, groups), strict=True):
            column.setdefault(name, []).append(values.double().flatten().numpy())


def _pair_accuracy(
    logits: np.ndarray[Any, Any], share: np.ndarray[Any, Any], groups: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Share of pairs of one request, a point apart or more, that the means order as the scores do."""
    pairs = ordered_pairs(torch.from_numpy(share), torch.from_numpy(groups), margin=0.04)
    better, worse = pairs.better.numpy(), pairs.worse.numpy()
    right = logits[better] > logits[worse]
    return {"n_pairs": len(right), "accuracy": float(right.mean()) if len(right) else None}


def main(arguments: list[str] | None = None) -> int:
    """The process of a training: settings from a TOML file and flags; metrics as JSON on stdout. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.reward.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the reward's folder")
    parser.add_argument("--config", type=Path, default=None, help="settings in TOML")
    parser.add_argument("--max-minutes", type=float, default=None, help="at most so long for the steps")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, over the file's")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        settings = dict(setting(text) for text in given.set)
        config = load_config(given.config, settings)
        with held(given.out):
            metrics = train_reward(config, given.out, given.max_minutes)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    print(json.dumps({name: value for name, value in metrics.items() if name not in ("calibration", "ranking")}))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
