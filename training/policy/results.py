"""What a training leaves in its folder for others to read: policy, figures, evaluation, curves; and what came of it.

kept: updates done, why it stopped early, history and trials, as `training.policy.checkpoint` keeps them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from training.checkpoint import reported_as_failed, write_file, write_json, write_tensors
from training.pictures.curves import curves
from training.policy.checkpoint import SCHEMA, VERSION
from training.policy.config import PolicyConfig, kept_settings
from training.policy.held_out_evaluation import CaseResult, progress, summary
from training.policy.lora_file import write_lora
from training.policy.protocol import Policy


def write_policy(
    out: Path, config: PolicyConfig, policy: Policy, average: dict[str, Tensor], kept: dict[str, Any]
) -> None:
    """Writes the policy as it is by now and its figures; the tensors first, then the JSON."""
    settings = kept_settings(config.model_dump(mode="json"), out)
    base = {
        "policy": settings["policy"],
        "revision": policy.revision,
        "rank": config.lora_rank,
        "alpha": config.lora_alpha,
    }
    write_tensors(out / "adapter.safetensors", average)
    write_lora(out, average, config.lora_rank, config.lora_alpha)
    document = {"schema": f"{SCHEMA}/{VERSION}", **base, "synthetic": policy.synthetic, "updates": kept["update"]}
    document["stopped"] = kept["stopped"]
    write_json(out / "policy.json", document | {"config": settings})
    lines = [json.dumps(figures, sort_keys=True, allow_nan=False) + "\n" for figures in kept["history"]]
    write_file(out / "figures.jsonl", "".join(lines))
    write_json(out / "trials.json", {"schema": "policy-trials/1", "trials": kept["trials"]})
    results = [[CaseResult(**row) for row in kept["trials"][place]["requests"]] for place in (0, -1)]
    names = (f"{policy.name} before", f"{policy.name} after {kept['trials'][-1]['update']} updates")
    evaluation = progress(
        *results, names=names, split=config.held_out_split, scorer=config.reward, synthetic=policy.synthetic
    )
    write_file(out / "evaluation.json", evaluation.model_dump_json(indent=1) + "\n")


def draw_curves(out: Path, name: str, kept: dict[str, Any]) -> None:
    """Draws all that was logged so far; it takes seconds, so not at every checkpoint."""
    with reported_as_failed(out / "curves.png"):
        plotted = [*map(_plotted, kept["trials"]), *kept["history"]]
        curves(plotted, out / "curves.png", title=f"{name}, {out.name}")


def _plotted(tested: dict[str, Any]) -> dict[str, float]:
    """A test's figures, by the names that curves have."""
    means = summary([CaseResult(**row) for row in tested["requests"]])
    signals = {f"signal/{name}": value for name, value in tested["signals"].items() if value is not None}
    return {"update": tested["update"], **{f"held_out/{name}": value for name, value in means.items()}, **signals}


def outcome(state: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a training: updates done, why it stopped early, and the held-out figures of its start and end."""
    ends = [summary([CaseResult(**row) for row in state["trials"][place]["requests"]]) for place in (0, -1)]
    return {"updates": state["update"], "stopped": state["stopped"], "start": ends[0], "end": ends[1]}
