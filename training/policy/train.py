"""Trains a policy with rewards of regions: `python -m training.policy.train --out FOLDER --set dataset=...`.

Flat on purpose, top to bottom: read, roll out, score, take advantages, learn, test, write. Everything random hangs on
seed, update and request, so a training that was killed goes on to the same weights, and several processes
(`accelerate launch`) make the same samples as one. The last checkpoint always stays whole.
"""

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn

from runtime.child import end_with
from runtime.exits import failed, leave
from schemas.errors import BadInput, RegionwiseError
from schemas.record import short_hash
from training.checkpoint import write_file
from training.dataset_identity import DIGEST_FIELD, dataset_digest
from training.output_folder import bytes_of, held, look_for_room
from training.pictures.sheets import sheet, sheet_png
from training.policy.checkpoint import check_same_base, read_state, restore_state, write_state
from training.policy.config import PolicyConfig, load_config
from training.policy.data import load_cases
from training.policy.edit_cases import PolicyCase
from training.policy.held_out_evaluation import column, edited, judged
from training.policy.lora_file import add_lora
from training.policy.loss_metrics import clip_fractions, mean_figures
from training.policy.processes.exchange import gathered, gathered_rows, longest_wait, sum_gradients
from training.policy.processes.memory import keep_memory
from training.policy.registry import make_policy
from training.policy.results import draw_curves, outcome, write_policy
from training.policy.reward_hacking import (
    Signals,
    StopRule,
    mean_signals,
    signals_from_json,
    signals_of,
    signals_to_json,
)
from training.policy.rewards import RewardQueue, make_case_reward
from training.policy.rollouts import advantages_of, batch_of, region_table, roll_out_requests, sheet_rows
from training.policy.update import Logged, accumulate, first_step_gap, with_recomputed_log_probs
from training.settings import setting

log = logging.getLogger(__name__)
#: Requests that a sheet shows.
SHEET_REQUESTS = 4


class TooManyMissing(RegionwiseError):
    """More rewards are missing than the config allows."""


class Diverged(RegionwiseError):
    """The weights went where no gradient is finite; the last checkpoint is whole."""


def train_policy(config: PolicyConfig, out: Path, on_update: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Trains a policy into `out` and returns what came of it; a finished training of the same config is left alone.

    on_update: told the number of updates done, after each.
    Raises: RunConflict where `out` was trained with another config, dataset or base policy; BadInput for data, rewards
    or a policy that cannot be used; TooManyMissing where the reward fails too often (what was trained so far is kept);
    Diverged where gradients are no numbers any more; CheckpointFailed where the disk is full.
    """
    # 1. The same numbers every time.
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    waiting = InitProcessGroupKwargs(timeout=longest_wait(config))
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[waiting])
    if accelerator.device.type == "cpu":
        keep_memory()
    rank, world, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    state = read_state(out, config)
    if state is not None and (state["update"] >= config.updates or state["stopped"]):
        if main:
            add_lora(out, config.lora_rank, config.lora_alpha)
        return outcome(state)

    # 2. Requests, reward, policy.
    dataset = dataset_digest(Path(config.dataset))
    cases, left_out = load_cases(Path(config.dataset), "train")
    if left_out:
        log.info("requests left out: %s", ", ".join(f"{count} {why}" for why, count in sorted(left_out.items())))
    cases = cases.of_regions(config.min_regions)
    tested, _ = load_cases(Path(config.dataset), config.held_out_split)
    held_out = list(tested.of_regions(config.min_regions)[: config.evaluation_requests])
    if not cases or not held_out:
        raise BadInput(config.dataset, f"has too few requests of {config.min_regions} regions", "lower min_regions")
    reward = make_case_reward(config.reward)
    second = make_case_reward(config.second_reward) if config.second_reward else None
    if state is not None:
        check_same_base(out, config)
    policy = make_policy(
        config.policy,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        guidance=config.guidance,
        dtype=config.dtype,
        device=str(accelerator.device),
        checkpointing=config.checkpointing,
        seed=config.seed,
    )
    trained = policy.trained()
    if main:
        look_for_room(out, 10 * bytes_of(trained))  # two adapters, a checkpoint of four such, and the one before
    average = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    first_update, history, trials = 0, list[dict[str, float]](), list[dict[str, Any]]()
    if state is not None:
        restore_state(out, state, trained, average, optimizer)
        first_update, history, trials = state["update"], list(state["history"]), list(state["trials"])

    watched: dict[str, Any] = {"batch": config.sample_batch, "timeout_s": config.reward_timeout_s}

    def test(update: int, kl: float) -> None:
        """Scores the averaged policy on the held-out requests and keeps what it shows."""
        own = held_out[rank::world]
        with averaged(trained, average):
            images = edited(policy, own, config.evaluation_steps, config.sample_batch)
        results = judged(policy, own, images, reward, **watched)
        scores = column(results, "region_reward")
        beside = column(judged(policy, own, images, second, **watched), "region_reward") if second else None
        signs = [
            signals_of([image], scores[i : i + 1], None if beside is None else beside[i : i + 1], kl)
            for i, image in enumerate(images)
        ]
        rows = sorted(
            gathered_rows([asdict(result) for result in results], accelerator), key=lambda row: row["request"]
        )
        means = mean_signals([Signals(**row) for row in gathered_rows([asdict(sign) for sign in signs], accelerator)])
        trials.append({"update": update, "requests": rows, "signals": signals_to_json(means)})

    def is_shown(done: int) -> bool:
        """Whether pictures are due after so many updates."""
        return done % config.sheet_every == 0 or done == config.updates or bool(stopped)

    def keep(done: int) -> None:
        """Writes the policy and a checkpoint after so many updates."""
        if main and done > 0:
            kept = {"update": done, "stopped": stopped, "history": history, "trials": trials, DIGEST_FIELD: dataset}
            write_policy(out, config, policy, average, kept)
            if is_shown(done):
                draw_curves(out, policy.name, kept)
            write_state(out, config, trained, average, optimizer, kept)

    if not trials:
        test(0, 0.0)
    columns = cases.most_regions + 1
    spatial = config.method == "spatial"
    queue = RewardQueue(reward, threads=config.reward_threads, timeout_s=config.reward_timeout_s)
    stopped = ""
    board = None
    if main and config.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(out / "tensorboard"), purge_step=first_update + 1)

    for update in range(first_update, config.updates):
        started = time.monotonic()
        # 3. Samples, this process's share of each optimiser step's requests; rewards come in meanwhile.
        chosen = cases_of_update(cases, config, update)
        places = [p for k in range(config.optimizer_steps) for p in _dealt(config, k)[rank::world]]
        rollouts = roll_out_requests(policy, [chosen[p] for p in places], places, config, update, queue)
        rolled_s = time.monotonic() - started

        # 4. Advantages, over the samples of all processes.
        try:
            given = queue.collect()
        except RegionwiseError:
            keep(update)
            raise
        tables, first = [tuple(torch.zeros(0, columns) for _ in range(3))], 0
        for rollout in rollouts:
            tables.append(region_table(rollout, given[first : first + len(rollout.cases)], columns))
            first += len(rollout.cases)
        rewards, areas, phis = (torch.cat(table).to(accelerator.device) for table in zip(*tables, strict=True))
        at = torch.tensor([p for rollout in rollouts for p in rollout.places], dtype=torch.int64).to(rewards.device)
        (all_rewards, mine), (all_areas, _), (all_phis, _), (all_at, _) = (
            gathered(accelerator, t, f) for t, f in ((rewards, torch.nan), (areas, 0), (phis, torch.nan), (at, -1))
        )
        learnt = advantages_of(all_rewards.cpu(), all_areas.cpu(), all_phis.cpu(), all_at.cpu(), config, update)
        if learnt.figures["missing_share"] > config.max_missing_share:
            why = queue.failures[-1] if queue.failures else "the reward left scores out"
            share = f"{learnt.figures['missing_share']:.0%} of rewards in update {update + 1}"
            keep(update)
            raise TooManyMissing(f"reward {config.reward}", f"is missing {share}: {why}", "mend the reward, go on")
        advantages = learnt.advantages[mine].to(accelerator.device)
        scored_s = time.monotonic() - started - rolled_s
        batches, first = [], 0
        for rollout in rollouts:
            own = advantages[first : first + len(rollout.cases)]
            batches.append(batch_of(rollout, own, columns))
            first += len(rollout.cases)

        # 5. Steps. Old log-probs are taken again where rollout and update differ by their kernels.
        gaps = torch.tensor([max((first_step_gap(policy, batch, config) for batch in batches), default=0.0)])
        gap = float(gathered(accelerator, gaps.to(accelerator.device), 0)[0].max())
        if gap > config.clip / 10:
            batches = [with_recomputed_log_probs(policy, batch, config) for batch in batches]
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (update + 1) / max(1, config.warmup_updates))
        logged, norms = list[Logged](), list[float]()
        for _ in range(config.passes):
            for k in range(config.optimizer_steps):
                dealt = set(_dealt(config, k))
                optimizer.zero_grad(set_to_none=True)
                for rollout, batch in zip(rollouts, batches, strict=True):
                    rows = torch.tensor([i for i, p in enumerate(rollout.places) if p in dealt], dtype=torch.int64)
                    if len(rows):
                        part = batch.take(rows)
                        logged += accumulate(policy, part, config, len(rows) / (len(dealt) * config.group))
                sum_gradients(trained.values(), accelerator)
                norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), config.clip_norm)))
                if not math.isfinite(norms[-1]):
                    fault = f"has a gradient that is not finite in update {update + 1}"
                    raise Diverged(f"training {out}", fault, "train anew with a lower learning_rate")
                optimizer.step()
                for name, parameter in trained.items():
                    average[name].lerp_(parameter.detach(), 1 - config.ema)

        # 6. What is logged.
        total_s = time.monotonic() - started
        own_counts = [
            float(sum(len(batch) * batch.conditioning.tokens for batch in batches)),
            float(sum(rollout.dropped for rollout in rollouts)),
            float(len(queue.failures)),
        ]
        counts = gathered(accelerator, torch.tensor([own_counts], device=accelerator.device), 0)[0].sum(dim=0).tolist()
        figures = {
            "update": update + 1,
            **learnt.figures,
            **mean_figures(logged, accelerator),
            **clip_fractions(logged, config.trained_steps, columns if spatial else 1, accelerator),
            "gradient_norm": float(np.mean(norms)),
            "log_prob_gap": gap,
            "recomputed": float(gap > config.clip / 10),
            "dropped_regions": counts[1],
            "reward_failures": counts[2],
            "tokens_per_s": counts[0] * (config.sampling_steps + len(config.trained_steps) * config.passes) / total_s,
            "rollout_s": rolled_s,
            "reward_wait_s": scored_s,
            "update_s": total_s - rolled_s - scored_s,
        }
        history.append({name: float(value) for name, value in figures.items()})
        if board is not None:
            for name, value in history[-1].items():
                board.add_scalar(name, value, update + 1)
        queue.failures.clear()

        # 7. Tests, pictures, signs of hacking, checkpoint.
        done = update + 1
        if done % config.evaluate_every == 0 or done == config.updates:
            test(done, figures["kl/inside"])
            signs = [signals_from_json(tested["signals"]) for tested in trials]
            stopped = (StopRule().reason(signs) or "") if config.stop_early else ""
            if stopped:
                log.warning("stopped after update %d: %s", done, stopped)
        log.info("update %d of %d: region reward %.4f", done, config.updates, figures["reward/region"])
        if main and is_shown(done):
            shown = sheet_rows(rollouts, given, advantages, SHEET_REQUESTS)
            picture = sheet(shown, title=f"{policy.name}, update {done}, {config.method}, reward {config.reward}")
            write_file(out / f"sheet-{done:05d}.png", sheet_png(picture))
        if done % config.checkpoint_every == 0 or done == config.updates or stopped:
            keep(done)
        on_update(done)
        if stopped:
            break
    queue.close()
    if board is not None:
        board.close()
    accelerator.wait_for_everyone()
    return outcome({"update": done, "stopped": stopped, "trials": trials})


def cases_of_update(cases: Sequence[PolicyCase], config: PolicyConfig, update: int) -> list[PolicyCase]:
    """The requests of an update: round after round through all of them, each round in an order of its own."""
    numbers = range(update * config.requests, (update + 1) * config.requests)
    places = (divmod(number, len(cases)) for number in numbers)
    return [cases[_order_of_round(config.seed, turn, len(cases))[place]] for turn, place in places]


@lru_cache(maxsize=2)  # an update may end one round and begin the next
def _order_of_round(seed: int, turn: int, count: int) -> tuple[int, ...]:
    """The places of `count` requests in the order in which round `turn` goes through them."""
    rng = np.random.default_rng(int(short_hash("order", seed, turn), 16))
    return tuple(rng.permutation(count).tolist())


def _dealt(config: PolicyConfig, number: int) -> list[int]:
    """The requests of an update, by place, that optimiser step `number` of a pass learns from."""
    return list(range(number, config.requests, config.optimizer_steps))


@contextmanager
def averaged(trained: dict[str, nn.Parameter], average: dict[str, Tensor]) -> Iterator[None]:
    """While it is open the policy has its averaged adapter."""
    now = {name: parameter.detach().clone() for name, parameter in trained.items()}
    try:
        for name, parameter in trained.items():
            parameter.data.copy_(average[name])
        yield
    finally:
        for name, parameter in trained.items():
            parameter.data.copy_(now[name])


def main(
    arguments: list[str] | None = None,
    joined: Callable[[timedelta], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> int:
    """The process: says on one line what came of it. Returns: exit code.

    joined: the group of the training's processes while it is open, told how long one waits for the others.
    """
    parser = argparse.ArgumentParser(prog="python -m training.policy.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the policy")
    parser.add_argument("--config", type=Path, default=None, help="TOML file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting over the file's")
    given = parser.parse_args(arguments)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(os.getppid())  # a torchrun that is killed ends none of its processes; the folder would stay in use
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if main_process else logging.WARNING, format="%(message)s")
    try:
        config = load_config(given.config, dict(setting(text) for text in given.set))
        with joined(longest_wait(config)), held(given.out) if main_process else nullcontext():
            result = train_policy(config, given.out)
        if main_process:
            print(json.dumps(result))
    except (RegionwiseError, OSError) as error:
        return failed(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    leave(main())
