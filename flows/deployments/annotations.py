"""Pushing and collecting as Prefect flows: what `regionwise push` and `collect` do, with what came of it to look at.

The token stands in the worker's environment, under the name that `token_env` gives; no parameter holds it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from annotation.studio.http import StudioSettings
from flows.collect import Watch, collect_run, watch_run
from flows.deployments.parameters import RunFolder, checked
from flows.push import push_run
from flows.push_settings import TOKEN_ENV, PushSettings, push_settings
from flows.studio_clients import studio_settings
from pipeline.run.folder import read_build_info


def _run_name() -> str:
    return Path(str(flow_run.parameters.get("run", "annotations"))).name


@task(name="push", persist_result=False)
def push(run: Path, settings: PushSettings) -> dict[str, object]:
    """See `flows.push.push_run`."""
    return push_run(run, settings)


@task(name="collect", persist_result=False)
def collect(run: Path, settings: StudioSettings, snapshot: str | None) -> dict[str, object]:
    """See `flows.collect.collect_run`."""
    return collect_run(run, settings, snapshot)


@flow(name="push-annotations", flow_run_name=_run_name, validate_parameters=False, persist_result=False)
@checked
def push_annotations(
    run: RunFolder,
    url: str | None = None,
    token_env: str = TOKEN_ENV,
    studio: str | None = None,
    title: str | None = None,
    images: Literal["local", "data", "s3"] = "local",
    documents: str | None = None,
    bucket: str | None = None,
    endpoint: str | None = None,
    raters: int = 3,
    overlap: float = 1.0,
    gold: str | None = None,
    gold_share: float = 0.1,
    values: str | None = None,
    reward: str | None = None,
    ranking: bool = False,
    batch: int = 250,
) -> dict[str, Any]:
    """Sends the tasks to rate now to Label Studio; run again after a collect, those that raters disagreed on.

    Args:
        run: the run's folder; a relative one lies in the checkout.
        url: where Label Studio is; empty for where the run was pushed before, or where `studio` says.
        token_env: the variable in the worker's environment that holds the token.
        studio: data folder of a local Label Studio; empty for another one.
        title: what its projects are called; empty for the run's name and six digits of its settings.
        images: how annotators come by them.
        documents: for local images, the server's document root.
        bucket: for images on S3.
        endpoint: for images on another S3-compatible service than AWS.
        raters: raters of the overlap.
        overlap: share of candidates with several raters.
        gold: known scores to mix in, a file or `oracle`.
        gold_share: gold among the tasks.
        values: a file of what to rate first (JSONL); empty for no order.
        reward: what it is unsure about comes first, `region` or `region:FOLDER`; empty for no order.
        ranking: each request's candidates side by side, to be ranked, and nothing else.
        batch: tasks in one import.
    """
    given = dict(locals())  # the parameters: no other name is there yet
    settings = push_settings({name: value for name, value in given.items() if name != "run"})
    folder = Path(run).resolve()
    facts = push(folder, settings)
    return _with_table(folder, "pushed", facts)


@flow(name="collect-annotations", flow_run_name=_run_name, validate_parameters=False, persist_result=False)
@checked
def collect_annotations(
    run: RunFolder,
    url: str | None = None,
    token_env: str = TOKEN_ENV,
    studio: str | None = None,
    snapshot: str | None = None,
    looks: Annotated[int, Field(ge=1)] = 1,
    every_s: Annotated[float, Field(gt=0)] = 30.0,
) -> dict[str, Any]:
    """Reads what is new or changed in a run's Label Studio projects into its annotation store.

    Args:
        run: the run's folder; a relative one lies in the checkout.
        url: where Label Studio is; empty for where the run was pushed.
        token_env: the variable in the worker's environment that holds the token.
        studio: data folder of a local Label Studio; empty for another one.
        snapshot: a name for all annotations up to then; empty for none.
        looks: how often to look.
        every_s: seconds between looks.
    """
    folder = Path(run).resolve()
    settings, _ = studio_settings(folder, url, token_env, Path(studio) if studio else None)
    if looks > 1:
        logger = get_run_logger()
        watch_run(folder, settings, Watch(every_s, looks=looks - 1), lambda found: logger.info("%s", found))
    facts = collect(folder, settings, snapshot)
    return _with_table(folder, "collected", facts)


def _with_table(run: Path, what: str, facts: dict[str, object]) -> dict[str, Any]:
    """The facts, also as a table."""
    name = read_build_info(run).name
    rows = [{"fact": key, "value": str(value)} for key, value in facts.items()]
    create_table_artifact(rows, key=f"annotations-{what}", description=f"What was {what} of {name}")
    return dict(facts)
