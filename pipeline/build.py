"""A build from its config: the plan, the four data stages, and the scheduler that hands parts to an executor."""

import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from pipeline.build_models import (
    LocalModels,
    Models,
    check_models,
    identify_models,
    keep_models,
    model_roles,
    name_and_revision,
    revisions_of,
)
from pipeline.config import RUNTIME_SETTINGS, BuildConfig, config_digest
from pipeline.editors.plugins import is_embedded
from pipeline.editors.procedural import ProceduralEditor
from pipeline.models.protocols import Segmenter
from pipeline.regions.difference import DifferenceSegmenter
from pipeline.requests.files import read_request_file, request_file
from pipeline.requests.scenes import TEXTURES
from pipeline.run.folder import STAGES, read_build_info, read_done
from pipeline.run.in_flight import in_flight
from pipeline.run.plan import PlannedLine, read_plan, scene_lines, write_plan
from pipeline.run.stage import Stage, run_part
from pipeline.stages.candidates import make_candidates
from pipeline.stages.gates import apply_gates
from pipeline.stages.regions import find_regions
from pipeline.stages.requests import open_requests
from runtime.checkout import checkout_commit
from runtime.files import sha256_of_file, write_whole
from schemas.errors import BadInput, RunConflict, TooManyRejected
from schemas.manifest import BuildInfo, PartDone, StageCount
from schemas.record import first_fault

#: One part at a time in a process that asks models: they are not to be called by two threads at once.
_MODELS = Lock()
NOT_IN_DIGEST = ("device", "batch_size")
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "scikit-image", "scipy")


@dataclass(frozen=True)
class PartResult:
    """What became of one stage on one part. worked: False where its result was there already."""

    done: PartDone
    worked: bool


def make_segmenter(config: BuildConfig) -> Segmenter:
    """The segmenter that the config names."""
    return DifferenceSegmenter(config.gates.difference)


def stages_of(config: BuildConfig, revisions: Mapping[str, str | None], models: Models) -> tuple[Stage, ...]:
    """The data stages of a build in their order, each with all the settings that its result depends on.

    revisions: of the models, as `run.json` has them; models: not asked before a stage runs.
    Raises: BadInput where a model has no revision.
    """
    embedded, segmenter = is_embedded(config.editor), make_segmenter(config)
    editor = ["procedural", _embedded_revision(config)] if embedded else name_and_revision(revisions, "editor")
    has_detector, has_outliner = (role in model_roles(config) for role in ("detector", "outliner"))
    gates = config.model_dump(mode="json")["gates"]
    textures = config.scene_textures or TEXTURES
    return (
        Stage(
            name="requests",
            version=1,
            after=None,
            run=partial(
                open_requests,
                size_px=config.size_px,
                gates=config.gates,
                scene_textures=textures,
                detector=models.detector if has_detector else None,
            ),
            images="sources",
            image_format=config.image_format,
            settings={"size_px": config.size_px, "gates": gates, "scene_textures": textures}
            | ({"detector": name_and_revision(revisions, "detector")} if has_detector else {}),
        ),
        Stage(
            name="candidates",
            version=1,
            after="requests",
            run=partial(make_candidates, editor=models.editor, k=config.k, seed=config.seed),
            images="candidates",
            image_format=config.image_format,
            settings={"editor": editor, "k": config.k, "seed": config.seed},
        ),
        Stage(
            name="regions",
            version=1,
            after="candidates",
            run=partial(
                find_regions,
                segmenter=segmenter,
                gates=config.gates,
                outliner=models.outliner if has_outliner else None,
            ),
            settings={"segmenter": [segmenter.name, segmenter.revision], "gates": gates}
            | ({"outliner": name_and_revision(revisions, "outliner")} if has_outliner else {}),
        ),
        Stage(
            name="gates",
            version=1,
            after="regions",
            run=partial(apply_gates, gates=config.gates),
            settings={"gates": gates},
        ),
    )


def _embedded_revision(config: BuildConfig) -> str:
    return ProceduralEditor(config.leave_out_defects).revision


def prepare_run(run: Path, config: BuildConfig) -> BuildInfo:
    """The run's `run.json`, with its plan written first; an existing run is taken up where its config is the same.

    The caller holds the run's lock. No model is loaded.
    Raises: RunConflict, naming the setting, the file or the model that differs; BadInput.
    """
    files = [request_file(Path(path)) for path in config.requests]
    inputs = {str(file): sha256_of_file(file) for file in files}
    resolved = config.model_dump(mode="json")
    if (run / "run.json").is_file():
        info = read_build_info(run)
        _check_same(run, info, resolved, inputs)
        check_models(run, info, config)
        return _with_runtime(run, info, resolved)
    found = identify_models(run, config)
    sources: list[Iterator[PlannedLine]] = [read_request_file(file) for file in files]
    if config.scenes:
        sources.append(scene_lines(config.seed, config.scenes, config.scene_size_px, config.scene_renders))
    n_parts = write_plan(run, sources, config.part_requests)
    keep_models(run, found)
    info = BuildInfo(
        name=run.resolve().name,
        config=resolved,
        config_digest=config_digest({name: resolved[name] for name in resolved if name not in NOT_IN_DIGEST}),
        inputs=inputs,
        n_parts=n_parts,
        seeds={"build": config.seed},
        model_revisions=_embedded_revisions(config) | revisions_of(found),
        commit=checkout_commit(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        packages={name: version(name) for name in PACKAGES},
    )
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def _embedded_revisions(config: BuildConfig) -> dict[str, str]:
    editor = {"editor": _embedded_revision(config)} if is_embedded(config.editor) else {}
    return {**editor, "segmenter": make_segmenter(config).revision}


def _with_runtime(run: Path, info: BuildInfo, resolved: dict[str, Any]) -> BuildInfo:
    """The run's info with the device and batch size that are asked for now, which workers read from `run.json`."""
    now = {name: resolved[name] for name in NOT_IN_DIGEST}
    if {name: info.config.get(name, now[name]) for name in now} == now:
        return info
    info = info.model_copy(update={"config": info.config | now})
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def _check_same(run: Path, info: BuildInfo, resolved: dict[str, Any], inputs: dict[str, str]) -> None:
    before, now = _flat(info.config), _flat(resolved)
    for name in sorted({*before, *now} - set(RUNTIME_SETTINGS)):
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


def config_of(info: BuildInfo) -> BuildConfig:
    """The config that a run was made with."""
    try:
        return BuildConfig.model_validate(info.config)
    except ValidationError as error:
        raise BadInput(f"the config in {info.name}'s run.json", first_fault(error), "make the run anew") from None


def run_info(run: Path) -> tuple[BuildInfo, BuildConfig]:
    """A run's `run.json` and its config, read and checked once a process while the file stays as it is.

    Raises: BadInput.
    """
    path = run / "run.json"
    state = path.stat() if path.is_file() else None
    return _info_at(run, (state.st_size, state.st_mtime_ns, state.st_ino) if state else None)


@lru_cache(maxsize=4)
def _info_at(run: Path, _state: tuple[int, ...] | None) -> tuple[BuildInfo, BuildConfig]:
    info = read_build_info(run)
    return info, config_of(info)


def run_stage_part(run: str, stage: str, part: int, invocation: str = "") -> tuple[str, bool]:
    """One unit of work, as workers get it: names in, the done-file's JSON and whether work was done out.

    invocation: the id of the command that asks for it; only its own deaths of workers count against a row. Empty: none.
    """
    folder = Path(run)
    info, config = run_info(folder)
    stages = {stage.name: stage for stage in stages_of(config, info.model_revisions, LocalModels(config, folder))}
    models = _MODELS if model_roles(config) else nullcontext()
    with models, in_flight(folder, stage, part, invocation) as at_work:
        done, worked = run_part(folder, stages[stage], part, plan_rows=read_plan, in_flight=at_work)
    return done.model_dump_json(), worked


def run_parts(
    run: Path, n_parts: int, executor: Executor, on_result: Callable[[PartResult], None] = lambda _: None
) -> None:
    """Runs all stages over all parts: each part goes on to its next stage as soon as it is through the one before.

    Raises: the first error of a part, once the parts in flight have ended.
    """
    submit = partial(_submit, executor, run, uuid4().hex)
    waiting = {submit(0, part): (0, part) for part in range(n_parts)}
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
                waiting[submit(stage + 1, part)] = (stage + 1, part)
        if failure:
            for future in waiting:
                future.cancel()
            waiting = {future: place for future, place in waiting.items() if not future.cancelled()}
    if failure:
        raise failure


def _submit(
    executor: Executor, run: Path, invocation: str, stage: int, part: int
) -> "Future[tuple[str, bool]]":  # fmt: skip
    return executor.submit(run_stage_part, str(run.resolve()), STAGES[stage], part, invocation)


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
