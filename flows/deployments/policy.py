"""Training a policy as a Prefect flow: what `regionwise train-policy` does, its log in the flow run's.

The training is a process of its own, which ends with the flow run, be that cancelled or not; started again it goes on.
"""

import json
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.deployments.parameters import Processes, RunFolder, checked
from flows.train_policy import PolicyTraining, figures, train_policy_of_run


def _run_name() -> str:
    return Path(str(flow_run.parameters.get("run", "policy"))).name


@task(name="train", persist_result=False)
def train(run: Path, training: PolicyTraining) -> dict[str, Any]:
    """See `flows.train_policy.train_policy_of_run`."""
    logger = get_run_logger()
    return train_policy_of_run(run, training, lambda line: logger.info("%s", line))


@flow(name="train-policy", flow_run_name=_run_name, validate_parameters=False, persist_result=False)
@checked
def train_policy(
    run: RunFolder,
    config: dict[str, Any] | None = None,
    config_file: str | None = None,
    name: str = "policy",
    processes: Processes = 1,
) -> dict[str, Any]:
    """Trains a policy on a run's dataset into RUN/policy/NAME; run again, it goes on from its last checkpoint.

    Args:
        run: the run's folder; a relative one lies in the checkout.
        config: settings of training/policy/config.py, over the file's.
        config_file: settings in TOML, as examples/policy.toml; empty for the defaults.
        name: of the policy's folder.
        processes: on this machine, a GPU each where there are any.
    """
    settings = tuple(f"{key}={json.dumps(value)}" for key, value in (config or {}).items())
    file = Path(config_file) if config_file else None
    found = train(Path(run).resolve(), PolicyTraining(name, file, settings, processes))
    names = ("held-out requests", "before", "after", "difference")
    rows = [dict(zip(names, shown, strict=True)) for shown in figures(found)]
    said = f"{found['policy']} after {found['updates']} updates. {found['stopped']}".strip()
    create_table_artifact(rows, key="policy-figures", description=said)
    return found
