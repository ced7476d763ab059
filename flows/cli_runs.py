"""The commands on a run and its dataset. What each does is imported when it is called."""

import sys
from pathlib import Path
from typing import Any

import click

from flows.cli_options import DASK, JSON, MODEL_WORKERS, RUN, WORKERS, config_options, given_settings
from pipeline.config import load_config


@click.command()
@RUN
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=None, help="settings in TOML")
@config_options
@WORKERS
@MODEL_WORKERS
@DASK
@JSON
@click.pass_context
def build(
    context: click.Context,
    /,
    run: Path,
    config_file: Path | None,
    workers: int,
    model_workers: int | None,
    dask: str | None,
    as_json: bool,
    **_settings: Any,
) -> None:
    """Build a dataset: requests, candidates, regions, gates, then the tars. Started again, it goes on where it was."""
    from flows.commands import Processes, build_run

    build_run(run, load_config(config_file, given_settings(context)), Processes(workers, model_workers, dask), as_json)


@click.command()
@RUN
@WORKERS
@MODEL_WORKERS
@DASK
@JSON
def resume(run: Path, workers: int, model_workers: int | None, dask: str | None, as_json: bool) -> None:
    """Go on with a run, with the settings that it was made with."""
    from flows.commands import Processes, resume_run

    resume_run(run, Processes(workers, model_workers, dask), as_json)


@click.command()
@RUN
@click.option("--scores", default=None, help="rows, oracle or consensus:SNAPSHOT [default: as at the last export]")
@WORKERS
@DASK
@JSON
def export(run: Path, scores: str | None, workers: int, dask: str | None, as_json: bool) -> None:
    """Write a finished run's dataset anew; tars that are whole and current stay."""
    from flows.commands import export_run

    export_run(run, scores, workers, dask, as_json)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="sizes and sha256 only, samples unread")
@click.option("--expect", default=None, help="the digest that the export printed: finds what is whole and another")
@JSON
def verify(dataset: Path, quick: bool, expect: str | None, as_json: bool) -> None:
    """Check a dataset against its manifest: bytes, samples, counts. Exit code 1 where anything differs."""
    from flows.commands import verify_dataset

    sys.exit(verify_dataset(dataset, quick, expect, as_json))


@click.command()
@RUN
@WORKERS
@JSON
def repair(run: Path, workers: int, as_json: bool) -> None:
    """Make anew what is damaged or missing in a run: parts, images and tars; the rest stays."""
    from flows.commands import Processes, resume_run

    resume_run(run, Processes(workers), as_json)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="the page [default: RUN/report.html]")
@click.option("--max-requests", type=click.IntRange(1, 10_000), default=60, help="most requests shown [default: 60]")
@JSON
def report(run: Path, out: Path | None, max_requests: int, as_json: bool) -> None:
    """Write one self-contained page to look at: samples with masks and scores, rejects, distributions."""
    from flows.commands import report_run

    report_run(run, out, max_requests, as_json)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def status(run: Path, as_json: bool) -> None:
    """Say how far a run is: parts done, rows kept and rejected by reason, for every stage."""
    from flows.commands import show_status

    show_status(run, as_json)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("key")
@JSON
def trace(run: Path, key: str, as_json: bool) -> None:
    """Follow one request or candidate (its key, id or name) through every stage of a run."""
    from flows.trace_row import trace_key

    trace_key(run, key, as_json)
