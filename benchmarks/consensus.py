"""`python -m benchmarks.consensus`: what is gained by knowing the raters, and whether random ones are found.

Everything here is synthetic: simulated raters hear an oracle's scores of procedural scenes. Consensus: mean distance of
`latent-1` from the oracle, beside the plain mean, the median and Huber's mean of the same answers, in points of 25,
with the difference's 95 % interval over source images. `SteadyRater` errs exactly as the model assumes, so those panels
are its home ground; copying, bimodal and random raters, a bias that differs between kinds of questions, a whole panel
that is off, few tasks and scores without a pattern break it or leave it little. Gold: how many of 200 raters the
sequential test takes for random within 20 gold answers (single questions). Speed: 10,000 annotations.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from annotation.raters.agreement import measure_agreement, resamples
from annotation.raters.answers import IMAGE_SCORES, REGION_SCORES, Floats
from annotation.raters.consensus import consensus, current, fit_panel, method_of, robust_mean
from annotation.raters.gold import BLOCK, choose_gold, gold_answers, random_verdict
from annotation.raters.simulated import BimodalRater, RandomRater, Rater, SteadyRater, panel, rate
from benchmarks.consensus_panels import SETTINGS, Truth
from benchmarks.result import row, write_result
from pipeline.build import run_parts
from pipeline.config import BuildConfig
from pipeline.prepare import prepare_run
from pipeline.run.folder import read_kept
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.record import short_hash
from schemas.score import Annotation, CandidateScore

SCENES = BuildConfig(scenes=160, scene_size_px=64, part_requests=80, k=3, seed=11)
PANELS = 3
RIVALS: dict[str, Callable[[Sequence[float]], float]] = {"mean": fmean, "median": median, "huber-3.125": robust_mean}
SIMULATIONS = 200
GOLD_POOL = 60
#: Gold is one task in ten, so drift goes on for nine others between two of them.
TASKS_A_GOLD = 10
SPEED_ANNOTATIONS = 10_000
AT = "2000-01-01T00:00:00+00:00"


def truths(folder: Path) -> list[Truth]:
    """The oracle's scores of every kept candidate of a small build of scenes."""
    run = folder / "scenes"
    with locked(run), workers(1) as executor:
        info = prepare_run(run, SCENES)
        run_parts(run, info.n_parts, executor)
    return [
        Truth(scores, sample.request.sources[0].pixels_sha256)
        for part in range(info.n_parts)
        for sample in read_kept(run, "gates", part)
        for scores in sample.scores[:1]
    ]


def annotated(raters: Sequence[Rater], cases: Sequence[Truth], each: int | None) -> dict[str, list[Annotation]]:
    """What stands by candidate. each: how many of the raters, drawn for each task; None for all."""
    found = {}
    for index, case in enumerate(cases):
        rng = np.random.default_rng(int(short_hash("who", case.scores.candidate), 16))
        chosen = range(len(raters)) if each is None else sorted(rng.choice(len(raters), each, replace=False))
        rows = [_annotation(rate(raters[place], case.scores, index)) for place in chosen]
        found[case.scores.candidate] = current(rows)
    return found


def _annotation(scores: CandidateScore) -> Annotation:
    return Annotation(
        id=f"{scores.rater}/{scores.candidate}",
        task=scores.candidate,
        scores=scores,
        state="submitted",
        lead_time_s=None,
        created_at=AT,
        updated_at=AT,
    )


def errors(standing: Mapping[str, Sequence[Annotation]], cases: Sequence[Truth]) -> dict[str, list[tuple[str, float]]]:
    """By way of putting answers together: (source, distance from the truth) of every question."""
    model = fit_panel(standing)
    if method_of(model) != "latent-1":
        raise SystemExit("consensus: there is no rater model")
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in ("latent-1", *RIVALS)}
    for case in cases:
        rows = standing[case.scores.candidate]
        said = consensus(rows, "benchmark", model)
        regions = {region.region: region for region in said.regions}
        for truth, latent, answers in _questions(case.scores, rows, said, regions):
            found["latent-1"].append((case.source, abs(latent - truth)))
            for name, rival in RIVALS.items():
                found[name].append((case.source, abs(rival(answers) - truth)))
    return found


def _questions(
    truth: CandidateScore, rows: Sequence[Annotation], said: Any, regions: Mapping[str, Any]
) -> Iterator[tuple[float, float, list[float]]]:
    for name in IMAGE_SCORES:
        answers = [score for row in rows if (score := getattr(row.scores, name)) is not None]
        if answers and getattr(truth, name) is not None:
            yield getattr(truth, name), getattr(said, name).mean, answers
    for region in truth.regions:
        given = [one for row in rows for one in row.scores.regions if one.region == region.region]
        for name in REGION_SCORES:
            answers = [score for one in given if (score := getattr(one, name)) is not None]
            if answers and getattr(region, name) is not None:
                yield getattr(region, name), getattr(regions[region.region], name).mean, answers


def consensus_rows(what: str, found: Mapping[str, Sequence[tuple[str, float]]], home: bool) -> Iterator[dict[str, Any]]:
    """One row a rival. gain: how much nearer to the truth than the rival, with its interval over sources."""
    sources = {source: place for place, source in enumerate(sorted({source for source, _ in found["mean"]}))}
    where = np.array([sources[source] for source, _ in found["mean"]])
    weights = resamples(len(sources))
    own = np.array([error for _, error in found["latent-1"]])
    for name in RIVALS:
        other = np.array([error for _, error in found[name]])
        low, high = np.percentile(_means(other - own, where, weights)[1:], [2.5, 97.5])
        figures = row(
            f"{what}: distance from the oracle", "points", own.mean(), other.mean(), name, higher_is_better=False
        )
        rms = {"rms": float(np.sqrt((own**2).mean())), "peer_rms": float(np.sqrt((other**2).mean()))}
        gain = {"gain": float(other.mean() - own.mean()), "gain_low": float(low), "gain_high": float(high)}
        yield figures | gain | rms | {"n": len(own), "keeps_to_the_model": home}


def _means(values: Floats, where: Any, weights: Floats) -> Floats:
    sums = np.zeros((weights.shape[1], 2))
    np.add.at(sums, where, np.column_stack([values, np.ones(len(values))]))
    drawn = weights @ sums
    return np.asarray(drawn[:, 0] / drawn[:, 1])


#: what -> (a rater by seed, what it is for such a rater to be taken for random)
GOLD_RATERS: dict[str, tuple[Callable[[int], Rater], str]] = {
    "random": (lambda seed: RandomRater(label="random", seed=seed), "found"),
    "honest, as in panels": (lambda seed: panel(1, seed=seed)[0], "false alarms"),
    "honest, harsh": (
        lambda seed: SteadyRater(label="harsh", seed=seed, bias=-4, harshness=1.5, noise=4, drift=-0.5),
        "false alarms",
    ),
    "honest, very harsh": (
        lambda seed: SteadyRater(label="stern", seed=seed, bias=-6, harshness=1.8, noise=3, drift=-1),
        "false alarms",
    ),
    "honest, lenient": (
        lambda seed: SteadyRater(label="mild", seed=seed, bias=4, harshness=0.6, noise=4, drift=1),
        "false alarms",
    ),
    "two moods, 9 points up or down": (
        lambda seed: BimodalRater(label="moody", seed=seed, own=SteadyRater(label="own", seed=seed, noise=2.5)),
        "taken for random",
    ),
    "25 whatever is shown": (lambda seed: SteadyRater(label="always", seed=seed, harshness=0), "taken for random"),
}


def gold_rows(cases: Sequence[Truth]) -> Iterator[dict[str, Any]]:
    """Shares of 200 simulated raters of each kind that are taken for random."""
    known = {case.scores.candidate: case.scores for case in cases}
    chosen = choose_gold(known, GOLD_POOL)
    for what, (make, verb) in GOLD_RATERS.items():
        verdicts = [_verdicts(make(seed), known, chosen, seed) for seed in range(SIMULATIONS)]
        for n, place in ((BLOCK, 0), (5 * BLOCK, 1)):
            share = fmean(one[place] for one in verdicts)
            limit = {"found": 1.0, "false alarms": 0.0}.get(verb)
            yield row(f"gold, {what}: {verb} within {n} answers", "share", share, limit=limit) | {"n": SIMULATIONS}


def _verdicts(rater: Rater, known: Mapping[str, CandidateScore], chosen: Sequence[str], seed: int) -> tuple[bool, bool]:
    """Whether the rater is taken for random within one block of gold answers, and within five."""
    rng = np.random.default_rng(int(short_hash("gold", seed), 16))
    rows = []
    for number, place in enumerate(rng.permutation(len(chosen))):
        said = _annotation(rate(rater, known[chosen[place]], TASKS_A_GOLD * number))
        at = f"2000-01-01T00:{number // 60:02d}:{number % 60:02d}+00:00"
        rows.append(said.model_copy(update={"created_at": at, "updated_at": at}))
    answers = gold_answers(known, rows)
    if len(answers) < 5 * BLOCK:
        raise SystemExit("consensus: too little gold")
    first, more = (random_verdict(answers[:n]).found_after is not None for n in (BLOCK, 5 * BLOCK))
    return first, more


def speed_rows(cases: Sequence[Truth]) -> Iterator[dict[str, Any]]:
    """Seconds for the model, the consensus and the agreement of 10,000 annotations by five raters."""
    many = []
    for number in range(SPEED_ANNOTATIONS // 5):
        case = cases[number % len(cases)]
        candidate = short_hash("again", number)
        many.append(Truth(case.scores.model_copy(update={"candidate": candidate}), f"{case.source}-{number}"))
    standing = annotated(panel(5, seed=1), many, None)
    begin = time.process_time()
    model = fit_panel(standing)
    fitted = time.process_time()
    for rows in standing.values():
        consensus(rows, "benchmark", model)
    put_together = time.process_time()
    measure_agreement(
        standing, "benchmark", method_of(model), model, sources={t.scores.candidate: t.source for t in many}
    )
    measured = time.process_time()
    for what, seconds in (
        ("rater model", fitted - begin),
        ("consensus", put_together - fitted),
        ("agreement with 1,000 resamples", measured - put_together),
    ):
        yield row(f"{what} of {SPEED_ANNOTATIONS:,} annotations, CPU time", "s", seconds, higher_is_better=False)


def main() -> None:
    """Measures, prints and writes benchmarks/results/consensus.json."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        cases = truths(Path(folder))
    for what, setting in SETTINGS.items():
        pooled: dict[str, list[tuple[str, float]]] = {}
        chosen = setting.cases(cases)
        for seed in range(PANELS):
            for name, found in errors(annotated(setting.raters(seed), chosen, setting.each), chosen).items():
                pooled.setdefault(name, []).extend(found)
        rows += consensus_rows(what, pooled, setting.home)
    rows += gold_rows(cases)
    rows += speed_rows(cases)
    facts = {"candidates": len(cases), "sources": len({case.source for case in cases}), "panels": PANELS}
    write_result("consensus", rows, synthetic=True, truth="oracle:construction on procedural scenes", **facts)


if __name__ == "__main__":
    main()
