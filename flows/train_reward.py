"""`regionwise train-reward` and `evaluate`: processes of their own, for this one knows no torch."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.dataset.shards import read_manifest
from runtime.child import child_command, child_environment
from runtime.processes import end_at_once, running
from schemas.errors import BadInput, RegionwiseError
from training.reward.config import load_config
from training.settings import setting

#: What a rival goes without -> its folder below the reward's, and the setting.
RIVALS = {"source": ("source-blind", "use_source=false"), "instruction": ("instruction-blind", "use_instruction=false")}


class TrainingFailed(RegionwiseError):
    """The process of a training, or one that asks a reward, ended with an error of its own.

    said: its message, where that was kept from the terminal; else it stands there.
    """

    def __init__(self, thing: str, code: int, said: str = "") -> None:
        said = said.removeprefix(f"{thing}: ")
        super().__init__(
            thing, said or f"its process ended with exit code {code}", "" if said else "see its message above"
        )
        self.exit_code = code if code in (2, 3) else 1


@dataclass(frozen=True)
class RewardTraining:
    """The settings of a training run of a reward. minutes: at most so long; settings: `NAME=VALUE`, over the file's."""

    config_file: Path | None = None
    minutes: float | None = None
    settings: tuple[str, ...] = ()


def train_reward_of_run(
    run: Path, training: RewardTraining, without: str | None, with_rivals: bool, as_json: bool
) -> None:
    """Trains the reward of a run's dataset into `<run>/reward`, or a rival into a folder below it, or all of them.

    Several are trained side by side, each as a process of its own.
    Raises: BadInput where the run has no dataset, a setting is wrong, or one rival and all of them are asked for;
    TrainingFailed.
    """
    if without is not None and with_rivals:
        raise BadInput("command line", f"asks for the rival without {without} and for all", "give one of them")
    read_manifest(run / "dataset")
    wanted: list[str | None] = [None, *RIVALS] if with_rivals else [without]
    folders = [run / "reward" / RIVALS[name][0] if name else run / "reward" for name in wanted]
    printed = outputs(
        [(folder, _command(run, folder, name, training)) for folder, name in zip(folders, wanted, strict=True)]
    )
    for folder, output in zip(folders, printed, strict=True):
        _show(folder, json.loads(output.splitlines()[-1]), as_json)


def _command(run: Path, out: Path, without: str | None, training: RewardTraining) -> list[str]:
    given = [f"dataset={json.dumps(str((run / 'dataset').resolve()))}"]
    given += [RIVALS[without][1]] if without is not None else []
    given += training.settings
    load_config(training.config_file, dict(setting(text) for text in given))  # here a fault is told at once
    command = child_command("training.reward.train", "--out", str(out.resolve()))
    for text in given:
        command += ["--set", text]
    command += ["--config", str(training.config_file.resolve())] if training.config_file else []
    command += ["--max-minutes", str(training.minutes)] if training.minutes is not None else []
    return command


def outputs(work: Sequence[tuple[Path, list[str]]]) -> list[str]:
    """What processes print, by (what they make, command) and side by side; none outlives this call.

    They run where this process runs, so that a relative path means the same in every command.
    Raises: TrainingFailed, naming what the first that failed should have made, once all have ended.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **child_environment()}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running(command, environment, stdout=subprocess.PIPE, end=end_at_once))
            for _, command in work
        ]
        printed = [process.communicate()[0].decode() for process in processes]
    for (folder, _), process in zip(work, processes, strict=True):
        if process.returncode:
            raise TrainingFailed(str(folder), process.returncode)
    return printed


def evaluate_reward_of_run(run: Path, left_out: str | None, sources: int | None, as_json: bool) -> None:
    """Tests the reward of a run and writes what the report shows; blind rivals that are trained stand beside it.

    Raises: BadInput where the run has no reward; TrainingFailed.
    """
    reward = run.resolve() / "reward"
    if not (reward / "reward.json").is_file():
        raise BadInput(str(run), "has no trained reward", f"train one: regionwise train-reward --run {run}")
    command = child_command("training.evaluation.run", "--reward", f"region:{reward}", "--out", str(reward))
    for name, (folder, _) in RIVALS.items():
        if (reward / folder / "reward.json").is_file():
            command += ["--rival", f"{name}_blind=region:{reward / folder}"]
    command += ["--rival", f"untrained=untrained:{reward}"]
    command += ["--left-out", left_out] if left_out else []
    command += ["--sources", str(sources)] if sources else []
    _show(reward, json.loads(outputs([(reward, command)])[0].splitlines()[-1]), as_json)


def _show(out: Path, metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"reward": str(out), **metrics}))
        return
    table = Table("reward", str(out))
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
