"""A build: its four data stages, and the scheduler that hands their parts to an executor."""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from uuid import uuid4

from pipeline.build_models import (
    LocalModels,
    Models,
    embedded_editor_revision,
    make_segmenter,
    model_roles,
    name_and_revision,
)
from pipeline.config import BuildConfig
from pipeline.editors.plugins import is_embedded
from pipeline.lanes.dask_channel import DaskChannel, check_cluster
from pipeline.lanes.remote import Channel, RemoteModels
from pipeline.lanes.supervisor import DeviceWork, running_lanes
from pipeline.models.devices import places_of
from pipeline.prepare import run_info
from pipeline.requests.presence import lines_to_open
from pipeline.requests.scenes import TEXTURES
from pipeline.run.folder import STAGES, read_done
from pipeline.run.in_flight import in_flight
from pipeline.run.stage import Stage, run_part
from pipeline.stages.candidates import make_candidates
from pipeline.stages.gates import apply_gates
from pipeline.stages.regions import find_regions
from pipeline.stages.requests import open_requests
from schemas.errors import TooManyRejected
from schemas.manifest import PartDone, StageCount

#: One part at a time in a process that asks models: they are not to be called by two threads at once.
_MODELS = Lock()


@dataclass(frozen=True)
class PartResult:
    """What became of one stage on one part. worked: False where its result was there already."""

    done: PartDone
    worked: bool


def stages_of(config: BuildConfig, revisions: Mapping[str, str | None], models: Models) -> tuple[Stage, ...]:
    """The data stages of a build in their order, each with all the settings that its result depends on.

    revisions: of the models, as `run.json` has them; models: not asked before a stage runs.
    Raises: BadInput where a model has no revision.
    """
    embedded, segmenter = is_embedded(config.editor), make_segmenter(config)
    editor = ["procedural", embedded_editor_revision(config)] if embedded else name_and_revision(revisions, "editor")
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
            version=2,
            after="requests",
            run=partial(make_candidates, editor=models.editor, k=config.k, seed=config.seed, gates=config.gates),
            images="candidates",
            image_format=config.image_format,
            settings={"editor": editor, "k": config.k, "seed": config.seed, "gates": gates},
        ),
        Stage(
            name="regions",
            version=2,
            after="candidates",
            run=partial(
                find_regions,
                gates=config.gates,
                outliner=models.outliner if has_outliner else None,
            ),
            settings={"segmenter": [segmenter.name, segmenter.revision], "gates": gates}
            | ({"outliner": name_and_revision(revisions, "outliner")} if has_outliner else {}),
        ),
        Stage(
            name="gates",
            version=2,
            after="regions",
            run=partial(apply_gates, gates=config.gates),
            settings={"gates": gates},
        ),
    )


@contextmanager
def open_models(
    run: Path, config: BuildConfig, model_workers: int, dask: str | None = None
) -> Iterator[tuple[Channel | None, tuple[DeviceWork, ...]]]:
    """(how units of work reach the models, what devices did so far): processes that end with the block, or a cluster.

    (None, ()) where the build asks no models. model_workers: processes on the CPU. dask: address of a scheduler.
    Raises: BadInput where no worker of the cluster takes model calls.
    """
    if not model_roles(config):
        yield None, ()
    elif dask:
        check_cluster(dask)
        yield DaskChannel(str(run.resolve())), ()
    else:
        with running_lanes(run, places_of(config.device, model_workers), config.model_timeout_s) as lanes:
            yield lanes.channel, lanes.work


@dataclass(frozen=True)
class Invocation:
    """One command that builds, as its units of work know it.

    id: the deaths of workers that it sees count against rows; '' for none. channel: to the models; None where each
    worker loads them.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    channel: Channel | None = None


#: Of a unit that no command asks for.
ALONE = Invocation(id="")


def run_stage_part(run: str, stage: str, part: int, invocation: Invocation = ALONE) -> tuple[str, bool]:
    """One unit of work, as workers get it: names in, the done-file's JSON and whether work was done out."""
    folder, channel = Path(run), invocation.channel
    info, config = run_info(folder)
    models: Models = LocalModels(config, folder)
    if channel:
        models = RemoteModels(channel, f"{stage} part {part}", model_roles(config), models)
    stages = {stage.name: stage for stage in stages_of(config, info.model_revisions, models)}
    in_turn = _MODELS if model_roles(config) and not channel else nullcontext()
    with in_turn, in_flight(folder, stage, part, invocation.id) as at_work:
        done, worked = run_part(
            folder, stages[stage], part, plan_rows=lambda _: lines_to_open(folder, info, part), in_flight=at_work
        )
    return done.model_dump_json(), worked


def run_parts(
    run: Path,
    n_parts: int,
    executor: Executor,
    on_result: Callable[[PartResult], None] = lambda _: None,
    invocation: Invocation | None = None,
    at_once: Callable[[], int] = lambda: sys.maxsize,
) -> None:
    """Runs all stages over all parts: each part goes on to its next stage as soon as it is through the one before.

    invocation: of the command; without one workers load their models themselves. at_once: says how many parts may be
    under way together. With few more than workers the stages of several parts overlap: models are asked while other
    parts are compared and written.
    Raises: the first error of a part, once the parts in flight have ended.
    """
    invocation, rest = invocation or Invocation(), iter(range(n_parts))
    waiting: dict[Future[tuple[str, bool]], tuple[int, int]] = {}

    def submit(stage: int, part: int) -> None:
        unit = executor.submit(run_stage_part, str(run.resolve()), STAGES[stage], part, invocation)
        waiting[unit] = (stage, part)

    def begin_parts() -> None:
        for part in islice(rest, max(0, at_once() - len(waiting))):
            submit(0, part)

    begin_parts()
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
                submit(stage + 1, part)
        if not failure:
            begin_parts()
        else:
            for future in waiting:
                future.cancel()
            waiting = {future: place for future, place in waiting.items() if not future.cancelled()}
    if failure:
        raise failure


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
