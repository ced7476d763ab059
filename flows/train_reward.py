"""`regionwise train-reward`: starts the training of a reward as a process of its own, for this one knows no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.shards import read_manifest
from schemas.errors import RegionwiseError

#: What a rival goes without -> its folder below the reward's, and the setting.
RIVALS = {"source": ("source-blind", "use_source=false"), "instruction": ("instruction-blind", "use_instruction=false")}


class TrainingFailed(RegionwiseError):
    """The process of a training ended with an error of its own, which it has said."""

    def __init__(self, thing: str, code: int) -> None:
        super().__init__(thing, f"the training ended with exit code {code}", "see its message above")
        self.exit_code = code if code in (2, 3) else 1


def train_reward_of_run(
    run: Path,
    config_file: Path | None,
    without: str | None,
    minutes: float | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trains the reward of a run's dataset into `<run>/reward`, or a rival into a folder below it.

    Raises: BadInput where the run has no dataset; TrainingFailed.
    """
    read_manifest(run / "dataset")
    out, given = run / "reward", [f"dataset={json.dumps(str((run / 'dataset').resolve()))}"]
    if without is not None:
        folder, setting = RIVALS[without]
        out, given = out / folder, [*given, setting]
    command = [sys.executable, "-m", "training.reward.train", "--out", str(out.resolve())]
    for setting in (*given, *settings):
        command += ["--set", setting]
    command += ["--config", str(config_file.resolve())] if config_file else []
    command += ["--max-minutes", str(minutes)] if minutes is not None else []
    root = Path(__file__).resolve().parent.parent
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    ended = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise TrainingFailed(str(out), ended.returncode)
    _show(out, json.loads(ended.stdout.splitlines()[-1]), as_json)


def _show(out: Path, metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"reward": str(out), **metrics}))
        return
    table = Table("reward", str(out))
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
