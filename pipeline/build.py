"""A build from its config: the plan, the four data stages, and the scheduler that hands parts to an executor."""

import platform
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.backends import Editor, Segmenter
from pipeline.config import BuildConfig, config_digest
from pipeline.edit import edit
from pipeline.editors.procedural import ProceduralEditor
from pipeline.files import sha256_of_file, write_whole
from pipeline.ingest import ingest
from pipeline.regions.difference import DifferenceSegmenter
from pipeline.regions.observe import observe
from pipeline.run_folder import STAGES, read_build_info, read_done
from pipeline.scenes import TEXTURES
from pipeline.sift import sift
from pipeline.sources import PlannedLine, read_plan, read_request_file, request_file, scene_lines, write_plan
from pipeline.stage import Stage, run_part
from schemas.errors import BadInput, RunConflict, TooManyRejected
from schemas.manifest import BuildInfo, PartDone, StageCount
from schemas.record import first_fault

PACKAGES = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "scikit-image", "scipy")


@dataclass(frozen=True)
class PartResult:
    """What became of one stage on one part. worked: False where its result was there already."""

    done: PartDone
    worked: bool


def make_editor(config: BuildConfig) -> Editor:
    """The editor that the config names."""
    return ProceduralEditor(config.leave_out_defects)


def make_segmenter(config: BuildConfig) -> Segmenter:
    """The segmenter that the config names."""
    return DifferenceSegmenter(config.gates.difference)


def stages_of(config: BuildConfig) -> tuple[Stage, ...]:
    """The data stages of a build in their order, each with all the settings that its result depends on."""
    editor, segmenter = make_editor(config), make_segmenter(config)
    gates = config.model_dump(mode="json")["gates"]
    textures = config.scene_textures or TEXTURES
    return (
        Stage(
            name="requests",
            version=1,
            after=None,
            run=partial(ingest, size_px=config.size_px, gates=config.gates, scene_textures=textures),
            images="sources",
            image_format=config.image_format,
            settings={"size_px": config.size_px, "gates": gates, "scene_textures": textures},
        ),
        Stage(
            name="candidates",
            version=1,
            after="requests",
            run=partial(edit, editor=editor, k=config.k, seed=config.seed),
            images="candidates",
            image_format=config.image_format,
            settings={"editor": [editor.name, editor.revision], "k": config.k, "seed": config.seed},
        ),
        Stage(
            name="regions",
            version=1,
            after="candidates",
            run=partial(observe, segmenter=segmenter, gates=config.gates),
            settings={"segmenter": [segmenter.name, segmenter.revision], "gates": gates},
        ),
        Stage(
            name="gates",
            version=1,
            after="regions",
            run=partial(sift, gates=config.gates),
            settings={"gates": gates},
        ),
    )


def prepare_run(run: Path, config: BuildConfig) -> BuildInfo:
    """The run's `run.json`, with its plan written first; an existing run is taken up where its config is the same.

    The caller holds the run's lock. Raises: RunConflict, naming the setting or the file that differs; BadInput.
    """
    files = [request_file(Path(path)) for path in config.requests]
    inputs = {str(file): sha256_of_file(file) for file in files}
    resolved = config.model_dump(mode="json")
    if (run / "run.json").is_file():
        info = read_build_info(run)
        _check_same(run, info, resolved, inputs)
        return info
    sources: list[Iterator[PlannedLine]] = [read_request_file(file) for file in files]
    if config.scenes:
        sources.append(scene_lines(config.seed, config.scenes, config.scene_size_px, config.scene_renders))
    n_parts = write_plan(run, sources, config.part_requests)
    info = BuildInfo(
        name=run.resolve().name,
        config=resolved,
        config_digest=config_digest(resolved),
        inputs=inputs,
        n_parts=n_parts,
        seeds={"build": config.seed},
        model_revisions={
            stage: revision
            for stage, revision in (
                ("editor", make_editor(config).revision),
                ("segmenter", make_segmenter(config).revision),
            )
        },
        commit=_commit(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        packages={name: version(name) for name in PACKAGES},
    )
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def _check_same(run: Path, info: BuildInfo, resolved: dict[str, Any], inputs: dict[str, str]) -> None:
    before, now = _flat(info.config), _flat(resolved)
    for name in sorted({*before, *now} - {"max_reject_share"}):  # says when to stop, not what comes out
        if before.get(name) != now.get(name):
            raise RunConflict(
                str(run),
                f"was made with {name} = {before.get(name)!r}, now it is {now.get(name)!r}",
                "give another --run, or the same settings",
            )
    for path, digest in inputs.items():
        if info.inputs.get(path) != digest:
            raise RunConflict(str(run), f"was made from another {path} (its bytes changed)", "give another --run")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Groups of settings by their dotted names, `gates.difference.max_shift_px`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _commit() -> str | None:
    root = Path(__file__).resolve().parent
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def config_of(info: BuildInfo) -> BuildConfig:
    """The config that a run was made with."""
    try:
        return BuildConfig.model_validate(info.config)
    except ValidationError as error:
        raise BadInput(f"the config in {info.name}'s run.json", first_fault(error), "make the run anew") from None


def run_stage_part(run: str, stage: str, part: int) -> tuple[str, bool]:
    """One unit of work, as workers get it: names in, the done-file's JSON and whether work was done out."""
    folder = Path(run)
    stages = {stage.name: stage for stage in stages_of(config_of(read_build_info(folder)))}
    done, worked = run_part(folder, stages[stage], part, plan_rows=read_plan)
    return done.model_dump_json(), worked


def run_parts(
    run: Path, n_parts: int, executor: Executor, on_result: Callable[[PartResult], None] = lambda _: None
) -> None:
    """Runs all stages over all parts: each part goes on to its next stage as soon as it is through the one before.

    Raises: the first error of a part, once the parts in flight have ended.
    """
    waiting = {_submit(executor, run, 0, part): (0, part) for part in range(n_parts)}
    failure: BaseException | None = None
    while waiting:
        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            stage, part = waiting.pop(future)
            failure = failure or future.exception()
            if failure:
                continue
            text, worked = future.result()
            on_result(PartResult(PartDone.from_json(text, thing="done-file"), worked))
            if stage + 1 < len(STAGES):
                waiting[_submit(executor, run, stage + 1, part)] = (stage + 1, part)
        if failure:
            for future in waiting:
                future.cancel()
            waiting = {future: place for future, place in waiting.items() if not future.cancelled()}
    if failure:
        raise failure


def _submit(executor: Executor, run: Path, stage: int, part: int) -> "Future[tuple[str, bool]]":
    return executor.submit(run_stage_part, str(run.resolve()), STAGES[stage], part)


def stage_counts(run: Path, n_parts: int) -> tuple[StageCount, ...]:
    """Kept and rejected by reason of every stage, over the parts that exist."""
    counts = []
    for stage in STAGES:
        done = [found for part in range(n_parts) if (found := read_done(run, stage, part))]
        reasons = sorted({reason for part in done for reason in part.rejected})
        counts.append(
            StageCount(
                stage=stage,
                rows_in=sum(part.rows_in for part in done),
                kept=sum(part.kept for part in done),
                rejected={reason: sum(part.rejected.get(reason, 0) for part in done) for reason in reasons},
            )
        )
    return tuple(counts)


def check_reject_share(run: Path, counts: tuple[StageCount, ...], max_share: float) -> None:
    """Raises: TooManyRejected where any stage dropped more than `max_share` of its rows."""
    for count in counts:
        dropped = sum(count.rejected.values())
        total = count.kept + dropped
        if total and dropped / total > max_share:
            most = max(count.rejected, key=lambda reason: count.rejected[reason])
            raise TooManyRejected(
                f"{run}, stage {count.stage}",
                f"rejected {dropped} of {total} rows (most: {most}), more than the allowed share {max_share}",
                f"read them in {count.stage}/*.parquet or the report, or raise --max-reject-share",
            )
