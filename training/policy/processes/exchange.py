"""What the processes of one training exchange: tensors alone, rows as JSON in a tensor; nothing is pickled.

Every process calls these with rows of its own, and all get the same.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from math import ceil
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.policy.config import PolicyConfig

#: What one process may be behind the others besides its rewards; gloo's default for all.
SLACK = timedelta(minutes=30)


def longest_wait(config: PolicyConfig) -> timedelta:
    """How long a process waits for the others before it takes them for lost: longer than they may wait for rewards.

    A slow reward is missing in the end, and the training goes on. Counted for a process that has all requests, each of
    a token grid of its own, in an update that is tested.
    """
    sampled = config.requests * ceil(config.group / config.sample_batch)
    tested = ceil(config.evaluation_requests / config.sample_batch) * (2 if config.second_reward else 1)
    return SLACK + (sampled + tested) * timedelta(seconds=config.reward_timeout_s)


def gathered(accelerator: Accelerator, tensor: Tensor, filler: float) -> tuple[Tensor, slice]:
    """(rows of all processes, slice of this process's rows); shorter tensors are padded with `filler`."""
    if accelerator.num_processes == 1:
        return tensor, slice(0, len(tensor))
    padded = accelerator.pad_across_processes(tensor, dim=0, pad_index=filler)
    first = accelerator.process_index * len(padded)
    return accelerator.gather(padded), slice(first, first + len(tensor))


def gathered_rows(rows: list[dict[str, Any]], accelerator: Accelerator) -> list[dict[str, Any]]:
    """The rows of all processes; each row is JSON-serialisable."""
    if accelerator.num_processes > 1:
        data = torch.tensor(list(json.dumps(rows).encode()), dtype=torch.uint8, device=accelerator.device)
        everyone, _ = gathered(accelerator, data[None, :].T, 32)
        parts = everyone.reshape(accelerator.num_processes, -1).cpu().numpy()
        rows = [row for part in parts for row in json.loads(part.tobytes())]
    return rows


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Sums the gradients of all processes; each has already weighted its samples by their share of all."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if accelerator.num_processes > 1:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="sum")


def sum_over_processes(sums: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum over all processes."""
    return accelerator.reduce(sums, reduction="sum") if accelerator.num_processes > 1 else sums
