"""The build as a Prefect flow: the command line's stages, a task for each stage and part, artifacts to look at.

A part's work is done by the same executors as on the command line; Prefect's tasks are threads that wait for them. A
task's result is its part's done-record under an explicit cache key. A cache hit says nothing about the files, so they
are checked, and a part whose files are gone or damaged is made anew past the cache.
"""

from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.deployments.parameters import Processes, RunFolder, checked
from pipeline.build import Invocation, check_reject_share, open_models, run_stage_part, stage_counts, stages_of
from pipeline.build_models import LocalModels
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.dataset.verify import verify
from pipeline.prepare import prepare_run, run_info
from pipeline.report import write_report
from pipeline.requests.presence import try_missing_again
from pipeline.run.folder import STAGES, is_whole, read_build_info, read_done
from pipeline.run.stage import input_digest
from pipeline.run.workers import workers as open_workers
from runtime.locks import locked
from schemas.errors import DamagedFile
from schemas.manifest import Manifest, PartDone
from schemas.record import short_hash


def part_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    """The cache key of one stage on one part: stage, version, part, and a hash of run folder, settings and input."""
    run, part = Path(arguments["run"]), int(arguments["part"])
    info, config = run_info(run)
    stages = {stage.name: stage for stage in stages_of(config, info.model_revisions, LocalModels(config, run))}
    stage = stages[arguments["stage"]]
    digest = short_hash(str(run), input_digest(run, stage, part))
    return f"{stage.name}-v{stage.version}-part-{part:05d}-{digest}"


@task(
    name="stage",
    task_run_name="{stage} {part}",
    persist_result=True,
    result_serializer="json",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=part_key),
)
def run_stage(run: str, stage: str, part: int, executor: Executor, invocation: Invocation) -> str:
    """One stage on one part, done by `executor`; returns the done-record as JSON."""
    text, worked = executor.submit(run_stage_part, run, stage, part, invocation).result()
    done = PartDone.from_json(text, thing="done-file")
    get_run_logger().info(
        "%s part %d: in %d, kept %d, rejected %s, %.2f s%s",
        *(stage, part, done.rows_in, done.kept, done.rejected or 0, done.seconds, "" if worked else " (was there)"),
    )
    return text


@task(name="part", task_run_name="part {part}", persist_result=False)
def run_part_stages(run: str, part: int, executor: Executor, invocation: Invocation) -> None:
    """All stages of one part, one after the other; each result from the cache where its files stand."""
    for stage in STAGES:
        state: State[str] = run_stage(run, stage, part, executor, invocation, return_state=True)
        text = state.result()
        if state.name == "Cached" and not _stands(Path(run), PartDone.from_json(text, thing="cached done-record")):
            get_run_logger().warning("%s part %d: files are gone or damaged, made anew past the cache", stage, part)
            run_stage.with_options(refresh_cache=True)(run, stage, part, executor, invocation)


def _stands(run: Path, cached: PartDone) -> bool:
    """Whether the run folder holds, whole, what a cached record says."""
    done = read_done(run, cached.stage, cached.part)
    return done is not None and done.input_digest == cached.input_digest and is_whole(run, cached.files)


@task(name="export", persist_result=False)
def export(run: str, executor: Executor) -> Manifest:
    """The dataset's tars, card and manifest; tars that are whole and current stay."""
    manifest = export_dataset(Path(run), executor)
    get_run_logger().info("export: %d rows in %d tars", manifest.rows, len(manifest.shards))
    return manifest


@task(name="verify", persist_result=False)
def check(run: str) -> None:
    """Reads the dataset against its manifest. Raises: DamagedFile, naming the first tar that differs."""
    dataset = Path(run) / "dataset"
    _, faults = verify(dataset)
    if faults:
        fault = f"{faults[0].fault} ({len(faults)} of its tars differ)" if len(faults) > 1 else faults[0].fault
        raise DamagedFile(str(dataset / faults[0].shard), fault, "run `regionwise repair`")


@task(name="report", persist_result=False)
def report(run: str) -> str:
    """The page to look at; returns its path."""
    return str(write_report(Path(run), None))


def _run_name() -> str:
    return Path(str(flow_run.parameters.get("run", "build"))).name


@flow(name="build-dataset", flow_run_name=_run_name, validate_parameters=False, persist_result=False)
@checked
def build_dataset(
    run: RunFolder,
    config: BuildConfig,
    workers: Processes = 2,
    model_workers: Processes | None = None,
    dask: str | None = None,
) -> dict[str, Any]:
    """Builds a dataset, or goes on with one: requests, candidates, regions, gates, then tars, verify and report.

    Args:
        run: the run's folder; a relative one lies in the checkout.
        config: what the result depends on, as in build.toml.
        workers: local processes that do the work; with `dask`, how many parts are under way at once.
        model_workers: local processes of models on the CPU; empty for as many as workers.
        dask: address of a Dask scheduler that shares this file system; empty for local processes.
    """
    folder = Path(run).resolve()
    with locked(folder):
        if again := try_missing_again(folder, prepare_run(folder, config)):
            get_run_logger().info("tried again: %d requests lacked files that are there now", again)
        with (
            open_models(folder, config, model_workers or workers, dask) as (channel, _),
            open_workers(workers, dask, folder) as executor,
        ):
            _run_parts(str(folder), executor, workers, Invocation(channel=channel))
            info = read_build_info(folder)
            counts = stage_counts(folder, info.n_parts)
            check_reject_share(folder, counts, config.max_reject_share)
            manifest = export(str(folder), executor)
        check(str(folder))
        page = report(str(folder))
    return _show(folder, manifest, page)


def _run_parts(run: str, executor: Executor, workers: int, invocation: Invocation) -> None:
    """All parts, a few more at a time than there are workers, so that none waits.

    Raises: the first error of a part, once all others have ended.
    """
    n_parts = read_build_info(Path(run)).n_parts
    runner: ThreadPoolTaskRunner[None] = ThreadPoolTaskRunner(max_workers=workers + 2)
    with runner as threads:
        shared = {"run": run, "executor": executor, "invocation": invocation}
        futures = [threads.submit(run_part_stages, {"part": part, **shared}) for part in range(n_parts)]
        for future in futures:
            future.wait()
    for future in futures:
        future.result()


def _show(run: Path, manifest: Manifest, page: str) -> dict[str, Any]:
    """Puts counts and places into artifacts, and returns the same facts."""
    rows = [
        {
            "stage": count.stage,
            "rows in": count.rows_in,
            "kept": count.kept,
            "rejected": sum(count.rejected.values()),
            "by reason": ", ".join(f"{reason} {number}" for reason, number in count.rejected.items()),
        }
        for count in manifest.stages
    ]
    create_table_artifact(rows, key="build-counts", description=f"Rows by stage of {run.name}")
    facts = {
        "run": str(run),
        "dataset": str(run / "dataset"),
        "manifest": str(run / "dataset" / "manifest.json"),
        "card": str(run / "dataset" / "README.md"),
        "report": page,
        "rows": manifest.rows,
        "requests": manifest.requests,
        "shards": len(manifest.shards),
        "splits": manifest.splits,
        "synthetic": manifest.synthetic,
        "digest": manifest.digest,
    }
    lines = "\n".join(f"| {name} | `{value}` |" for name, value in facts.items())
    create_markdown_artifact(f"# {run.name}\n\n| | |\n|---|---|\n{lines}\n", key="build-places")
    return facts
