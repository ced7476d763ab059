"""Does the reward's uncertainty rise where raters disagree? Simulated raters (synthetic), held-out rows.

A copy of the run is rated by a panel and exported from its consensus, so that training sees means alone; then
Spearman's rank correlation between the predicted standard deviation and the panel's spread on the test split. Ceiling:
the correlation with the spreads of a second panel of other raters on the same candidates. Peer: nearness of the
predicted mean to the middle of the scale, which a reward without an uncertainty of its own could offer.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.result import once, row
from flows.commands import export_run
from flows.consensus import consensus_run
from flows.rate import rate_run
from pipeline.dataset.consensus_files import read_consensus
from pipeline.dataset.shards import read_dataset
from pipeline.run.folder import read_build_info
from runtime.bootstrap import Estimate, Floats, Ints, estimate, group_index, resamples
from schemas.dataset_row import DatasetRow
from schemas.score import IMAGE_SCORES, REGION_SCORES, SCORE_MAX, Consensus
from training.evaluation.reward_metrics import BOOTSTRAP_SAMPLES
from training.reward.config import RewardConfig
from training.reward.data import query_of
from training.reward.train import train_reward
from training.reward_protocol import Predicted, Prediction
from training.reward_registry import make_reward

log = logging.getLogger(__name__)
SNAPSHOT = "panel"
NAMES = (*(f"region.{name}" for name in REGION_SCORES), *(f"image.{name}" for name in IMAGE_SCORES))
#: Of a finished run, what raters and the export need.
_COPIED = ("run.json", "plan", "images", "requests", "candidates", "regions", "gates")
#: name of the score, region or '' for the image
Place = tuple[str, str]


@dataclass(frozen=True)
class Spreads:
    """One score of one held-out candidate. other: the second panel's spread, None where it has none."""

    name: str
    source: str
    std: float
    mean: float
    spread: float
    other: float | None


def measure(
    run: Path, config: RewardConfig, work: Path, raters: int, samples: int = BOOTSTRAP_SAMPLES
) -> list[dict[str, Any]]:
    """Rates, trains and tests; the rows of the result. What is done already is taken from `work`."""
    first = rated_copy(run, work / f"panel-of-{raters}-a", raters, 0)
    second = rated_copy(run, work / f"panel-of-{raters}-b", raters, 1)
    export_run(first, f"consensus:{SNAPSHOT}", 1, None, True)
    config = config.model_copy(update={"dataset": str((first / "dataset").resolve())})
    folder = work / f"reward-of-{raters}"
    trained = train_reward(config, folder)

    def measure_scores() -> dict[str, Any]:
        found = list(beside_spreads(first, second, folder))
        return {"scores": [vars(one) for one in found]}

    scores = once(folder / "tested.json", {"revision": trained["revision"]}, measure_scores)["scores"]
    return uncertainty_rows([Spreads(**one) for one in scores], raters, samples)


def rated_copy(run: Path, copy: Path, raters: int, seed: int) -> Path:
    """A copy of `run`, in which `raters` steady simulated raters have rated every candidate, with their consensus."""
    if not copy.exists():
        partial = copy.with_name(f"{copy.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in _COPIED[1:]:
            shutil.copytree(run / name, partial / name)
        shutil.copy(run / _COPIED[0], partial)
        partial.rename(copy)
    rate_run(copy, SNAPSHOT, (raters, 0, 0, 0), seed, True)
    consensus_run(copy, SNAPSHOT, True)
    return copy


def beside_spreads(first: Path, second: Path, reward_folder: Path) -> Iterator[Spreads]:
    """Every held-out score with a prediction and a spread, and the second panel's spread beside it."""
    reward = make_reward(f"region:{reward_folder}")
    others = consensus_by_candidate(second)
    for _, sample, members in read_dataset(first / "dataset", "test"):
        (prediction,) = reward.score([query_of(sample, members)])
        other = _of_consensus(others[sample.candidate]) if sample.candidate in others else {}
        for place, spread in of_row(sample).items():
            predicted = of_prediction(prediction).get(place, Predicted(None))
            if predicted.mean is not None and predicted.std is not None:
                source = sample.source_pixels_sha256[0]
                yield Spreads(place[0], source, predicted.std, predicted.mean, spread, other.get(place))


def consensus_by_candidate(run: Path) -> dict[str, Consensus]:
    """The consensus of every candidate of a rated run."""
    parts = range(read_build_info(run).n_parts)
    return {key: found for part in parts for key, found in read_consensus(run, SNAPSHOT, part).items()}


def of_row(sample: DatasetRow) -> dict[Place, float]:
    """The spread of every score of a row that has one."""
    found: dict[Place, float] = {}
    for region in sample.regions:
        for name, score in region.spreads.items():
            if score.spread is not None:
                found[f"region.{name}", region.region] = score.spread
    for image_name, score in sample.spreads.items():
        if score.spread is not None:
            found[f"image.{image_name}", ""] = score.spread
    return found


def _of_consensus(found: Consensus) -> dict[Place, float | None]:
    spreads = {
        (f"region.{name}", region.region): getattr(region, name).spread
        for region in found.regions
        for name in REGION_SCORES
    }
    return spreads | {(f"image.{name}", ""): getattr(found, name).spread for name in IMAGE_SCORES}


def of_prediction(prediction: Prediction) -> dict[Place, Predicted]:
    """Every predicted score by its place."""
    scores = {
        (f"region.{name}", key): getattr(region, name)
        for key, region in prediction.regions.items()
        for name in REGION_SCORES
    }
    return scores | {(f"image.{name}", ""): getattr(prediction, name) for name in IMAGE_SCORES}


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rho, ties by their mean rank; NaN where one of them is constant or there are fewer than three."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def correlation(first: Floats, second: Floats, sources: Ints, samples: int = BOOTSTRAP_SAMPLES) -> Estimate:
    """`rank_correlation` with its 95 % interval over sources. sources: the index of each score's source."""
    if not len(sources):
        return Estimate(None, None, None)
    weights = resamples(int(sources.max()) + 1, samples, 0).astype(np.int64)
    figures = []
    for drawn in weights:
        rows = np.repeat(np.arange(len(first)), drawn[sources])
        figures.append(rank_correlation(first[rows], second[rows]))
    return estimate(np.array(figures))


def uncertainty_rows(scores: Sequence[Spreads], raters: int, samples: int = BOOTSTRAP_SAMPLES) -> list[dict[str, Any]]:
    """The rows of the result: all scores pooled, the mean over scores, and each score by itself."""
    what = f"predicted std against the spread of {raters} simulated raters"
    rows = [_row(f"HEADLINE {what}, all scores pooled", scores, samples)]
    by_name = [_row(f"{name}: {what}", [one for one in scores if one.name == name], samples) for name in NAMES]
    means = {column: _mean([found[column] for found in by_name]) for column in ("ours", "peer", "limit")}
    mean = row(f"{what}, mean over the {len(NAMES)} scores", "rho", means["ours"], means["peer"], _PEER)
    return [*rows, mean | {"limit": means["limit"], "n": len(scores)}, *by_name]


_PEER = "nearness of the predicted mean to the middle"


def _row(what: str, scores: Sequence[Spreads], samples: int) -> dict[str, Any]:
    sources = group_index([one.source for one in scores])
    std, spread = (np.array([getattr(one, name) for one in scores], dtype=np.float64) for name in ("std", "spread"))
    middle = -np.abs(np.array([one.mean for one in scores], dtype=np.float64) - SCORE_MAX / 2)
    again = [(one.spread, one.other) for one in scores if one.other is not None]
    ceiling = _known(rank_correlation(*np.array(again, dtype=np.float64).reshape(-1, 2).T))
    own, peer = (correlation(values, spread, sources, samples) for values in (std, middle))
    figures = row(what, "rho", own.value, peer.value, _PEER, limit=ceiling)
    intervals = {"low": own.low, "high": own.high, "peer_low": peer.low, "peer_high": peer.high}
    return figures | {"n": len(scores), "n_sources": len(set(sources.tolist())), "n_limit": len(again)} | intervals


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
