"""What the commands do: each runs a piece of the pipeline and prints a table, or one JSON object."""

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.build import PartResult, check_reject_share, config_of, prepare_run, run_parts, stage_counts
from pipeline.config import BuildConfig
from pipeline.export import export_dataset
from pipeline.report import write_report
from pipeline.run_folder import STAGES, locked, read_build_info, read_done, read_rows
from pipeline.shards import verify
from pipeline.workers import workers as open_workers
from schemas.errors import BadInput
from schemas.manifest import Manifest, StageCount
from schemas.sample import Rejection

TRACE_COLUMNS = ("stage", "part", "key", "kept", "reason", "detail")


def build_run(run: Path, config: BuildConfig, workers: int, dask: str | None, as_json: bool) -> None:
    """Plans a run or takes it up, runs its stages, and writes its dataset."""
    with locked(run):
        prepare_run(run, config)
        _finish(run, workers, dask, as_json)


def resume_run(run: Path, workers: int, dask: str | None, as_json: bool) -> None:
    """Goes on with a run; what is damaged or missing is made anew."""
    read_build_info(run)
    with locked(run):
        _finish(run, workers, dask, as_json)


def _finish(run: Path, workers: int, dask: str | None, as_json: bool) -> None:
    info = read_build_info(run)
    started = time.monotonic()
    worked = 0

    def count(result: PartResult) -> None:
        nonlocal worked
        worked += result.worked
        if bar is not None:
            bar.update(task, advance=1, description=f"{result.done.stage} part {result.done.part}")

    total = info.n_parts * len(STAGES)
    with _progress(as_json) as bar, open_workers(workers, dask) as executor:
        task = bar.add_task("parts", total=total) if bar is not None else None
        run_parts(run, info.n_parts, executor, count)
        counts = stage_counts(run, info.n_parts)
        check_reject_share(run, counts, config_of(info).max_reject_share)
        manifest = export_dataset(run, executor)
    _show_manifest(run, manifest, time.monotonic() - started, worked, as_json)


def _progress(as_json: bool) -> Any:
    if as_json:
        return nullcontext()
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def export_run(run: Path, scores: str | None, workers: int, dask: str | None, as_json: bool) -> None:
    """Writes the dataset of a run whose stages are done, with the scores that are asked for."""
    read_build_info(run)
    started = time.monotonic()
    with locked(run), open_workers(workers, dask) as executor:
        manifest = export_dataset(run, executor, scores)
    _show_manifest(run, manifest, time.monotonic() - started, 0, as_json)


def _show_manifest(run: Path, manifest: Manifest, seconds: float, worked: int, as_json: bool) -> None:
    facts = {
        "dataset": str(run / "dataset"),
        "manifest": str(run / "dataset" / "manifest.json"),
        "card": str(run / "dataset" / "README.md"),
        "shards": len(manifest.shards),
        "rows": manifest.rows,
        "requests": manifest.requests,
        "splits": manifest.splits,
        "scores": manifest.scores,
        "unscored": manifest.unscored,
        "synthetic": manifest.synthetic,
        "parts_worked": worked,
        "seconds": round(seconds, 2),
    }
    if as_json:
        print(json.dumps(facts))
        return
    console = Console()
    console.print(_stage_table(manifest.stages))
    for name, value in facts.items():
        console.print(f"{name:>12}  {value}", highlight=False, markup=False, soft_wrap=True)


def _stage_table(stages: tuple[StageCount, ...]) -> Table:
    table = Table("stage", "rows in", "kept", "rejected", "by reason")
    for stage in stages:
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage.rejected.items())
        cells = (stage.stage, stage.rows_in, stage.kept, sum(stage.rejected.values()), reasons)
        table.add_row(*(str(cell) for cell in cells))
    return table


def verify_dataset(dataset: Path, quick: bool, as_json: bool) -> int:
    """Prints whether a dataset is as its manifest says; returns the exit code."""
    manifest, faults = verify(dataset, quick=quick)
    errors = [{"shard": fault.shard, "fault": fault.fault} for fault in faults]
    facts = {"ok": not faults, "shards": len(manifest.shards), "rows": manifest.rows, "errors": errors}
    if as_json:
        print(json.dumps(facts))
    else:
        for fault in faults:
            print(f"{fault.shard}: {fault.fault}")
        print(f"{'damaged' if faults else 'ok'}: {len(manifest.shards)} shards, {manifest.rows} rows in {dataset}")
    return 1 if faults else 0


def report_run(run: Path, out: Path | None, max_requests: int, as_json: bool) -> None:
    """Writes the page of a run and says where it is."""
    read_build_info(run)
    path = write_report(run, out, max_requests=max_requests)
    size = path.stat().st_size
    print(json.dumps({"report": str(path), "bytes": size}) if as_json else f"report: {path} ({size / 1e6:.1f} MB)")


def show_status(run: Path, as_json: bool) -> None:
    """Prints the parts done and the rows kept and rejected of every stage."""
    info = read_build_info(run)
    counts = stage_counts(run, info.n_parts)
    parts = {stage: sum(read_done(run, stage, part) is not None for part in range(info.n_parts)) for stage in STAGES}
    exported = (run / "dataset" / "manifest.json").is_file()
    if as_json:
        stages = [count.model_dump() | {"parts_done": parts[count.stage]} for count in counts]
        print(json.dumps({"run": str(run), "parts": info.n_parts, "stages": stages, "exported": exported}))
        return
    console = Console()
    console.print(_stage_table(counts))
    done = ", ".join(f"{stage} {number}/{info.n_parts}" for stage, number in parts.items())
    console.print(f"parts done: {done}; dataset: {'written' if exported else 'not yet'}", highlight=False, markup=False)


def trace_key(run: Path, key: str, as_json: bool) -> None:
    """Prints every row of a run whose key, ids or name are `key`. Raises: BadInput where there is none."""
    info = read_build_info(run)
    found: list[dict[str, Any]] = []
    for stage in STAGES:
        for part in range(info.n_parts):
            if read_done(run, stage, part):
                found += [fact for row in read_rows(run, stage, part) if (fact := _traced(row, stage, part, key))]
    if not found:
        raise BadInput(f"key {key!r}", f"is in no stage of {run}", "give a request's id or name, or a sample's key")
    if as_json:
        print(json.dumps({"key": key, "rows": found}))
        return
    table = Table(*TRACE_COLUMNS)
    for fact in found:
        table.add_row(*(escape(str(fact[name])) for name in TRACE_COLUMNS))
    Console().print(table)


def _traced(row: Any, stage: str, part: int, key: str) -> dict[str, Any] | None:
    name = row.name if isinstance(row, Rejection) else row.request.name
    if key not in {row.key, name, *row.key.split("-")}:
        return None
    facts = {"stage": stage, "part": part, "key": row.key, "name": name, "kept": not isinstance(row, Rejection)}
    if isinstance(row, Rejection):
        return facts | {"reason": row.reason, "detail": row.detail, "record": row.model_dump(mode="json")}
    return facts | {"reason": "", "detail": "", "record": row.model_dump(mode="json")}
