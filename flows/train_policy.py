"""`regionwise train-policy`: processes of its own, whose log goes on as it comes; this one knows no torch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.train_reward import TrainingFailed
from pipeline.dataset.shards import read_manifest
from runtime.child import child_command, child_environment
from runtime.processes import interrupt_on_sigterm, running
from schemas.edit_benchmarks import PolicyEvaluation
from schemas.errors import BadInput, printable
from training.policy.config import load_config
from training.settings import setting

#: What the process says of its own errors begins with it; it is no line of the log, but why the training failed.
ERROR = "regionwise: "
INTERRUPTED = 130
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class PolicyTraining:
    """The settings of a training run of a policy. name: of its folder; settings: `NAME=VALUE`, over the file's."""

    name: str = "policy"
    config_file: Path | None = None
    settings: tuple[str, ...] = ()
    processes: int = 1


def train_policy_of_run(run: Path, training: PolicyTraining, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains a policy on a run's dataset into `<run>/policy/<name>`, and returns what `outcome` says of it.

    say: called with every line of the training's log as it comes. The training ends with this call, however that ends.
    Raises: BadInput where the run has no dataset, the name is no name, or a setting is wrong; TrainingFailed, with what
    its process said; KeyboardInterrupt where that was interrupted.
    """
    if not _NAME.fullmatch(training.name):
        raise BadInput(f"name {training.name[:80]!r}", "is no name of a folder", "use letters, digits, - and _")
    read_manifest(run / "dataset")
    folder = run.resolve() / "policy" / training.name
    follow(_command(run, folder, training), folder, say)
    return outcome(folder)


def _command(run: Path, out: Path, training: PolicyTraining) -> list[str]:
    several = training.processes > 1
    module = ["training.policy.processes.launch", str(training.processes)] if several else ["training.policy.train"]
    command = child_command(*module, "--out", str(out))
    given = (f"dataset={json.dumps(str((run / 'dataset').resolve()))}", *training.settings)
    load_config(training.config_file, dict(setting(text) for text in given))  # here a fault is told at once
    for text in given:
        command += ["--set", text]
    return command + (["--config", str(training.config_file)] if training.config_file else [])


def follow(command: Sequence[str], folder: Path, say: Callable[[str], None]) -> None:
    """Runs a command that makes `folder` and passes every line of its log on; no process of it outlives this call.

    It runs where this process runs, so that relative paths in its settings mean what they mean here.
    Raises: TrainingFailed; KeyboardInterrupt.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **child_environment(), "TQDM_DISABLE": "1"}
    with running(command, environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = _report_log(process.stderr or (), say)
        code = process.wait()
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise TrainingFailed(str(folder), code, said)


def _report_log(log: Iterable[bytes], say: Callable[[str], None]) -> str:
    """Passes every line of a log to `say` as it comes but errors, of which it returns the last."""
    said = ""
    for raw in log:
        line = printable(raw.decode(errors="replace").rstrip())
        if line.startswith(ERROR):
            said = line.removeprefix(ERROR)
        elif line:
            say(line)
    return said


def outcome(folder: Path) -> dict[str, Any]:
    """What became of a training: folder, updates, why it stopped early ('' for not), held-out figures then and now."""
    policy = json.loads((folder / "policy.json").read_bytes())
    evaluation = PolicyEvaluation.from_json(
        (folder / "evaluation.json").read_bytes(), thing=str(folder / "evaluation.json")
    )
    facts = {"policy": str(folder), "updates": policy["updates"], "stopped": policy["stopped"]}
    return facts | {"evaluation": evaluation.model_dump(mode="json")}


def figures(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(figure, before, after, difference) of an outcome, as text with 95 % intervals; what is missing is a dash."""
    rows = found["evaluation"]["figures"]
    return [(row["what"], *(_interval(row[name]) for name in ("first", "second", "difference"))) for row in rows]


def _interval(figure: dict[str, float | None]) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def train_policy_and_show(run: Path, training: PolicyTraining, as_json: bool) -> None:
    """As `train_policy_of_run`; its log goes to stderr, and what became of it is a table, or one JSON object."""
    with interrupt_on_sigterm():
        found = train_policy_of_run(run, training, lambda line: print(line, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps(found))
        return
    evaluation = found["evaluation"]
    names = (evaluation["first"], evaluation["second"], "difference")
    table = Table(f"{evaluation['n_requests']} held-out requests", *names)
    for row in figures(found):
        table.add_row(*row)
    console = Console()
    console.print(table)
    facts = {"policy": found["policy"], "updates": found["updates"], "stopped": found["stopped"] or "no"}
    for name, value in facts.items():
        console.print(f"{name:>12}  {value}", highlight=False, markup=False, soft_wrap=True)
