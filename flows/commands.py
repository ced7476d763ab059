"""What the commands do: each runs a piece of the pipeline and prints a table, or one JSON object."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from pipeline.build import Invocation, PartResult, check_reject_share, open_models, run_parts, stage_counts
from pipeline.build_models import check_models
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset, others_in
from pipeline.dataset.verify import OF_HUBS, verify
from pipeline.lanes.supervisor import DeviceWork
from pipeline.prepare import config_of, prepare_run
from pipeline.report import write_report
from pipeline.requests.files import request_file
from pipeline.requests.instructions import CannotParse, Parsed, parse_instruction
from pipeline.requests.presence import check_sources, try_missing_again
from pipeline.run.folder import STAGES, read_build_info, read_done
from pipeline.run.plan import check_plan
from pipeline.run.workers import at_once
from pipeline.run.workers import workers as open_workers
from runtime.disk import require_folders, require_place
from runtime.locks import locked
from schemas.errors import BadInput, TooManyRejected, printable
from schemas.manifest import Manifest, StageCount

#: What the smallest build writes; the rest hangs on what its requests are worth.
LEAST_BYTES = 1 << 18


@dataclass(frozen=True)
class Processes:
    """Who does the work of a build. workers: local processes; model_workers: those of models on the CPU, None for as
    many; dask: the address of a scheduler whose workers do it instead."""

    workers: int
    model_workers: int | None = None
    dask: str | None = None


def build_run(run: Path, config: BuildConfig, processes: Processes, as_json: bool) -> None:
    """Plans a run or takes it up, runs its stages, and writes its dataset."""
    files = [request_file(Path(path)) for path in config.requests]
    planned = (run / "run.json").is_file()  # else the lines are copied into the plan
    require_folders(run, LEAST_BYTES + (0 if planned else sum(file.stat().st_size for file in files)))
    with locked(run):
        prepare_run(run, config)
        _finish(run, processes, config, as_json)


def resume_run(run: Path, processes: Processes, as_json: bool) -> None:
    """Goes on with a run; what is damaged or missing is made anew."""
    info = read_build_info(run)
    config = config_of(info, run)
    require_folders(run, LEAST_BYTES)
    with locked(run):
        check_models(run, info, config)
        check_plan(run, info)
        check_sources(run, info)
        _finish(run, processes, config, as_json)


def _finish(run: Path, processes: Processes, config: BuildConfig, as_json: bool) -> None:
    info = read_build_info(run)
    started = time.monotonic()
    worked = 0
    again = try_missing_again(run, info)
    if again and not as_json:
        print(f"tried again: {again} requests lacked files that are there now", file=sys.stderr)

    def count(result: PartResult) -> None:
        nonlocal worked
        worked += result.worked
        if bar is not None:
            bar.update(task, advance=1, description=f"{result.done.stage} part {result.done.part}")

    total, workers, dask = info.n_parts * len(STAGES), min(processes.workers, info.n_parts), processes.dask
    with (
        _progress(as_json) as bar,
        open_models(run, config, processes.model_workers or workers, dask) as (channel, devices),
        open_workers(workers, dask, run) as executor,
    ):
        task = bar.add_task("parts", total=total) if bar is not None else None
        with _patience(as_json):
            run_parts(run, info.n_parts, executor, count, Invocation(channel=channel), at_once(executor, workers))
        counts = stage_counts(run, info.n_parts)
        try:
            check_reject_share(run, counts, config.max_reject_share)
        except TooManyRejected:
            if not as_json:
                Console(stderr=True).print(_stage_table(counts))
            raise
        manifest = export_dataset(run, executor)
    seconds = time.monotonic() - started
    _show_manifest(run, manifest, seconds, {"parts_made": worked, "tried_again": again}, as_json, devices)


@contextmanager
def _patience(as_json: bool) -> Iterator[None]:
    """Says what an interrupt waits for: a part may take long where a model edits it."""
    try:
        yield
    except KeyboardInterrupt:
        if not as_json:
            print("interrupted: the parts under way are finished; Ctrl-C again drops them", file=sys.stderr)
        raise


def _progress(as_json: bool) -> Any:
    if as_json:
        return nullcontext()
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def export_run(run: Path, scores: str | None, workers: int, dask: str | None, as_json: bool) -> None:
    """Writes the dataset of a run whose stages are done, with the scores that are asked for."""
    read_build_info(run)
    require_folders(run)
    started = time.monotonic()
    with locked(run), open_workers(workers, dask) as executor:
        manifest = export_dataset(run, executor, scores)
    _show_manifest(run, manifest, time.monotonic() - started, {"parts_made": 0}, as_json)


def _show_manifest(
    run: Path,
    manifest: Manifest,
    seconds: float,
    worked: dict[str, int],
    as_json: bool,
    devices: Sequence[DeviceWork] = (),
) -> None:
    facts: dict[str, Any] = {
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
        "digest": manifest.digest,
        **worked,
        "left": [path.name for path in others_in(run / "dataset") if path.name not in OF_HUBS],
        "seconds": round(seconds, 2),
    }
    if as_json:
        models = [asdict(device) for device in devices]
        print(json.dumps(facts | {"models": models, "stages": [stage.model_dump() for stage in manifest.stages]}))
        return
    console = Console()
    console.print(_stage_table(manifest.stages))
    facts["models"] = ", ".join(f"{one.device} busy {one.busy_s / seconds:.0%}" for one in devices) or "none"
    facts["splits"] = ", ".join(f"{split} {count}" for split, count in manifest.splits.items())
    for name in facts.pop("left"):
        fault = f"left as it is: {run / 'dataset' / name} is not of the dataset; take it away, or verify finds it"
        print(printable(fault), file=sys.stderr)
    for name, value in facts.items():
        console.print(f"{name:>12}  {value}", highlight=False, markup=False, soft_wrap=True)


def _stage_table(stages: tuple[StageCount, ...]) -> Table:
    table = Table(*(Column(name, no_wrap=True) for name in ("stage", "rows in", "kept", "rejected", "by reason")))
    for stage in stages:
        reasons = "\n".join(f"{reason} {count}" for reason, count in stage.rejected.items())
        cells = (stage.stage, stage.rows_in, stage.kept, sum(stage.rejected.values()), reasons)
        table.add_row(*(str(cell) for cell in cells))
    return table


def verify_dataset(dataset: Path, quick: bool, expect: str | None, as_json: bool) -> int:
    """Prints whether a dataset is as its manifest says; returns the exit code. expect: as `verify` takes it."""
    manifest, faults = verify(dataset, quick=quick, expect=expect)
    errors = [{"shard": fault.shard, "fault": fault.fault} for fault in faults]
    facts = {
        "ok": not faults,
        "shards": len(manifest.shards),
        "rows": manifest.rows,
        "errors": errors,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        for fault in faults:
            print(printable(f"{fault.shard}: {fault.fault}"))
        print(f"{'damaged' if faults else 'ok'}: {len(manifest.shards)} shards, {manifest.rows} rows in {dataset}")
    return 1 if faults else 0


def report_run(run: Path, out: Path | None, max_requests: int, as_json: bool) -> None:
    """Writes the page of a run and says where it is."""
    read_build_info(run)
    require_place(out or run / "report.html")
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


def show_parsed(instruction: str, as_json: bool) -> None:
    """Prints what an instruction names. Raises: BadInput where it names nothing, or is no English."""
    try:
        parsed = parse_instruction(instruction)
    except CannotParse as error:
        fault, _, remedy = error.detail.partition("; ")
        raise BadInput(f"instruction {instruction[:80]!r}", f"{fault} ({error.reason})", remedy) from None
    if as_json:
        print(json.dumps(parsed.as_json()))
        return
    for line in _parsed_lines(parsed):
        print(printable(line))


def _parsed_lines(parsed: Parsed) -> Iterator[str]:
    for target in parsed.as_json()["targets"]:
        rest = {name: value for name, value in target.items() if name not in ("label", "role", "operation")}
        yield f"{target['role']:>7}  {target['label']}: {target['operation']} {json.dumps(rest, ensure_ascii=False)}"
    yield from (f"{'keep':>7}  {phrase.head}" for phrase in parsed.keep)
    yield from (f"{'unread':>7}  {text}" for text in parsed.unread)


def convert_checkpoint(source: Path, out: Path, to: str, as_json: bool) -> None:
    """Writes a published checkpoint in a form that no code can hide in, and says what it was."""
    from pipeline.models.convert import convert

    facts = asdict(convert(source, out, to))
    if as_json:
        print(json.dumps(facts))
        return
    facts["left_out"] = ", ".join(facts["left_out"]) or "nothing"
    console = Console()
    for name, value in facts.items():
        console.print(f"{name:>13}  {printable(str(value))}", highlight=False, markup=False, soft_wrap=True)
