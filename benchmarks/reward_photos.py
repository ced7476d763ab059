"""Leave-one-photo-out: each photograph of a run is tested by a reward whose training saw no row of it.

The run's other photographs and its scenes stay in training. Photographs of one `source_group` (a stereo pair), or of
the same pixels, go together. The test is the macro AUROC of `training.evaluation`, beside pixel difference.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import once, row
from pipeline.dataset.plan import SPLITS
from pipeline.dataset.shards import read_dataset
from pipeline.run.folder import read_build_info, read_kept
from runtime.bootstrap import Estimate, estimate, resamples, weighted_means
from schemas.record import short_hash
from schemas.request import EditRequest
from schemas.reward import PhotoRow
from training.evaluation.localisation_cases import DefectCase, photo_cases, photos
from training.evaluation.reward_metrics import BOOTSTRAP_SAMPLES, PIXELS, photo_row
from training.reward.config import RewardConfig
from training.reward.pixel_difference import PixelDifference
from training.reward.train import train_reward
from training.reward_registry import make_reward

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhotoTest:
    """One photograph, or several that go together. auroc, pixels: of the reward and of pixel difference, macro.

    n_left_out: rows of training and validation that the training went without.
    """

    photo: str
    n_pairs: int
    n_cases: int
    n_left_out: int
    auroc: float | None
    pixels: float | None


def leave_one_photo_out(
    run: Path, config: RewardConfig, work: Path, cases_a_request: int, most: int | None = None
) -> list[PhotoTest]:
    """One training and one test per photograph, or group of them; what is done already is taken from `work`.

    config: its dataset is the run's. most: only the first so many.
    """
    known, wanted = source_names(Path(config.dataset)), photos(run)
    groups = photo_groups(_requests(run), wanted)[:most]
    tested = []
    for number, names in enumerate(groups, 1):
        log.info("photograph %d of %d: %s", number, len(groups), ", ".join(names))
        without = config.model_copy(update={"leave_out_sources": tuple(name for name in names if name in known)})
        tested.append(_test(run, tuple(name for name in names if name in wanted), without, work, cases_a_request))
    return tested


def source_names(dataset: Path) -> frozenset[str]:
    """The names of all sources that a dataset has rows of."""
    return frozenset(
        name for split in SPLITS for _, row, _ in read_dataset(dataset, split) for name in row.source_names
    )


def _requests(run: Path) -> Iterable[EditRequest]:
    for part in range(read_build_info(run).n_parts):
        yield from (sample.request for sample in read_kept(run, "requests", part))


def photo_groups(requests: Iterable[EditRequest], wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """The names of sources that are left out together, for every photograph in `wanted`, in order of name.

    Together: sources of the same pixels, and first sources of requests of one `source_group`.
    """
    groups: list[set[tuple[str, str]]] = []
    for request in requests:
        for index, source in enumerate(request.sources):
            marks = {("name", source.name), ("pixels", source.pixels_sha256)}
            marks |= {("group", request.source_group)} if request.source_group and index == 0 else set()
            touched = [group for group in groups if group & marks]
            groups = [group for group in groups if not group & marks] + [marks.union(*touched)]
    named = [tuple(sorted(text for sort, text in group if sort == "name")) for group in groups]
    return sorted(names for names in named if set(names) & set(wanted))


def _test(run: Path, names: tuple[str, ...], config: RewardConfig, work: Path, cases_a_request: int) -> PhotoTest:
    folder = work / short_hash(names)
    trained = train_reward(config, folder)

    def measure() -> dict[str, Any]:
        cases: list[DefectCase] = []
        for name in names:
            cases += photo_cases(run, name, cases_a_request)[0]
        label = " and ".join(names)
        if not cases:
            return asdict(PhotoTest(label, 0, 0, trained["n_left_out"], None, None))
        own = photo_row(make_reward(f"region:{folder}"), label, cases)
        pixels = photo_row(PixelDifference(), label, cases).auroc
        return asdict(PhotoTest(label, own.n_pairs, len(cases), trained["n_left_out"], own.auroc, pixels))

    made_of = {"revision": trained["revision"], "names": list(names), "cases_a_request": cases_a_request}
    return PhotoTest(**once(folder / "tested.json", made_of, measure))


def mean_over_photos(values: Sequence[float | None], samples: int = BOOTSTRAP_SAMPLES) -> Estimate:
    """The mean with its 95 % interval over photographs; those without a value are left out."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return Estimate(None, None, None)
    return estimate(weighted_means(known, resamples(len(known), samples, 0)))


def photo_rows(tested: Sequence[PhotoTest]) -> list[dict[str, Any]]:
    """The rows of the result: the mean over photographs, its gap to pixel difference, and every photograph."""
    both = [(one.auroc, one.pixels) for one in tested if one.auroc is not None and one.pixels is not None]
    mean, pixels = (mean_over_photos([pair[place] for pair in both]) for place in (0, 1))
    gap = mean_over_photos([ours - theirs for ours, theirs in both])
    counts = {"n": len(both), "n_pairs": sum(one.n_pairs for one in tested), "not_tested": len(tested) - len(both)}
    what = f"HEADLINE localisation on a photograph that training never saw, mean over {len(both)} photographs"
    peers = {"peer_low": pixels.low, "peer_high": pixels.high}
    rows = [
        row(what, "AUROC", mean.value, pixels.value, PIXELS, limit=1.0) | counts | _interval(mean) | peers,
        row("the same, less pixel difference", "AUROC", gap.value) | counts | _interval(gap),
    ]
    for one in tested:
        figures = row(f"{one.photo} ({one.n_pairs} pairs)", "AUROC", one.auroc, one.pixels, PIXELS, limit=1.0)
        rows.append(figures | {"n": one.n_pairs, "n_cases": one.n_cases, "n_left_out": one.n_left_out})
    return rows


def _interval(found: Estimate) -> dict[str, float | None]:
    return {"low": found.low, "high": found.high}


def as_photo_rows(tested: Sequence[PhotoTest]) -> list[PhotoRow]:
    """What `metrics.json` says of photographs."""
    return [PhotoRow(photo=one.photo, n_pairs=one.n_pairs, auroc=one.auroc) for one in tested]
