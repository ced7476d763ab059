"""The rating tasks of a run whose stages are done: one for each candidate that the gates kept."""

from collections.abc import Iterator
from pathlib import Path

from annotation.client import Task, TaskRegion
from pipeline.dataset.scores import ORACLE
from pipeline.run.folder import read_build_info, read_done
from schemas.errors import BadInput
from schemas.manifest import BuildInfo
from schemas.sample import Sample
from schemas.score import CandidateScore


def read_gated(run: Path) -> BuildInfo:
    """The run's facts. Raises: BadInput where a part is not through the gates."""
    info = read_build_info(run)
    missing = [part for part in range(info.n_parts) if read_done(run, "gates", part) is None]
    if missing:
        fault = f"has {len(missing)} of {info.n_parts} parts that are not through the gates"
        raise BadInput(str(run), fault, "finish it with `regionwise resume`")
    return info


def n_kept(run: Path, info: BuildInfo) -> int:
    """How many candidates the gates kept."""
    found = (read_done(run, "gates", part) for part in range(info.n_parts))
    return sum(done.kept for done in found if done)


def oracle_score(sample: Sample) -> CandidateScore | None:
    """What the oracle says of a kept sample, None where it says nothing."""
    return next((score for score in sample.scores if score.rater.startswith(f"{ORACLE}:")), None)


def rating_tasks(samples: list[Sample], first: int) -> Iterator[Task]:
    """The task of every sample; the first one's index is `first`."""
    for index, sample in enumerate(samples, first):
        if sample.candidate is None or sample.edited is None:
            raise ValueError(f"{sample.key} has no candidate")
        planned = {region.id: region for region in sample.planned}
        named = [(mask, planned.get(mask.region)) for mask in sample.observed]
        yield Task(
            candidate=sample.candidate.id,
            index=index,
            instruction=sample.request.instruction,
            sources=sample.sources,
            edited=sample.edited,
            size_hw=(sample.candidate.height_px, sample.candidate.width_px),
            regions=tuple(
                TaskRegion(
                    label=region.label if region else "changed but not named",
                    role=region.role if region else None,
                    mask=mask,
                )
                for mask, region in named
            ),
        )
