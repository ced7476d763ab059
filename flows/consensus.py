"""`regionwise consensus`: a snapshot of a run's annotations into scores, masks, ranks, and how far raters agree."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from annotation.raters.agreement import measure_agreement
from annotation.raters.consensus import METHODS, consensus, current, fit_panel, method_of
from annotation.raters.gold import GOLD_FILE, gold_answers, gold_summary, read_gold
from annotation.raters.panel_model import PanelModel
from annotation.raters.rankings import rank_consensus
from annotation.snapshots import Snapshot
from annotation.store import AnnotationStore, open_store, store_path
from flows.facts import show_facts
from flows.run_tasks import read_gated
from pipeline.dataset.consensus_files import AGREEMENT_FILE, RANKINGS_FILE, consensus_stage, write_consensus
from pipeline.run.folder import read_done, read_kept
from runtime.disk import require_room
from runtime.files import write_whole
from runtime.locks import locked
from schemas.agreement import GoldSummary
from schemas.manifest import BuildInfo
from schemas.score import Annotation

#: From so many candidates the raters and their agreement are known; more would hardly move either.
FIT_CANDIDATES = 20_000
#: What a consensus takes on disk at least, and a candidate's part of it where images are small.
LEAST_BYTES, ROW_BYTES = 65_536, 300


def consensus_run(run: Path, snapshot: str, as_json: bool, method: str = METHODS[0]) -> None:
    """Writes the consensus of a snapshot part by part, and beside it how far its raters agree and how they ranked.

    The raters are known from up to `FIT_CANDIDATES` candidates, those of the lowest ids, which say nothing of them.
    Parts that are there, whole and the same stay. Raises: BadInput where the run has no annotations or not that
    snapshot; RegionwiseError where the disk has no room for it, before anything is computed.
    """
    started = time.monotonic()
    info = read_gated(run)
    _require_room(run, snapshot, info)
    with locked(run), open_store(store_path(run)) as store:
        known = store.snapshot(snapshot)
        annotations = store.count(known.high_water)
        sources = _sources(run, info)
        chosen = sorted(sources.keys() & store.rated(known.high_water))
        standing = {
            candidate: found
            for candidate in chosen[:FIT_CANDIDATES]
            if (found := _standing(store, candidate, known.high_water))
        }
        panel_model = fit_panel(standing)
        model = panel_model if method == METHODS[0] else None
        counts = _write_parts(run, info, store, known, standing, model)
        gold = _gold_summaries(run, store, known.high_water)
        rankings = (current(store.rankings(one, known.rankings)) for one in sorted(store.ranked(known.rankings)))
        ranked = [rank_consensus(standing_rankings, snapshot) for standing_rankings in rankings if standing_rankings]
        agreement = measure_agreement(
            standing, snapshot, method_of(model), panel_model, sources=sources, n_candidates=counts["kept"], gold=gold
        )
        folder = run / consensus_stage(snapshot)
        write_whole(folder / AGREEMENT_FILE, agreement.model_dump_json(indent=1) + "\n")
        if ranked:
            write_whole(folder / RANKINGS_FILE, "".join(row.model_dump_json() + "\n" for row in ranked))
    facts = {
        "snapshot": snapshot,
        "consensus": str(folder),
        "annotations": annotations,
        "candidates": counts["kept"],
        "not_rated": counts["not_rated"],
        "ranked_requests": len(ranked),
        "synthetic": counts["synthetic"],
        "method": method_of(model),
        "alpha": {row.dimension: row.alpha.value for row in agreement.dimensions},
        "seconds": round(time.monotonic() - started, 2),
    }
    show_facts(facts, as_json)


def _require_room(run: Path, snapshot: str, info: BuildInfo) -> None:
    """Raises: RegionwiseError where the disk has no room for the parts that are not there yet."""
    stage = consensus_stage(snapshot)
    missing = [part for part in range(info.n_parts) if read_done(run, stage, part) is None]
    kept = sum(done.kept for part in missing if (done := read_done(run, "gates", part)))
    require_room(run / stage, LEAST_BYTES + ROW_BYTES * kept)


def _write_parts(
    run: Path,
    info: BuildInfo,
    store: AnnotationStore,
    snapshot: Snapshot,
    standing: Mapping[str, list[Annotation]],
    model: PanelModel | None,
) -> Counter[str]:
    """Writes every part's consensus; counts candidates kept, those that nobody rated, and synthetic ones."""
    counts = Counter[str]()
    for part in range(info.n_parts):
        candidates = [sample.candidate.id for sample in read_kept(run, "gates", part) if sample.candidate]
        rated = (standing.get(one) or _standing(store, one, snapshot.high_water) for one in candidates)
        rows = [consensus(annotated, snapshot.name, model) for annotated in rated if annotated]
        done = write_consensus(run, snapshot.name, part, rows, len(candidates))
        counts.update(
            kept=done.kept, not_rated=sum(done.rejected.values()), synthetic=sum(row.synthetic for row in rows)
        )
    return counts


def _standing(store: AnnotationStore, candidate: str, high_water: int) -> list[Annotation]:
    return current(store.annotations(candidate, high_water))


def _gold_summaries(run: Path, store: AnnotationStore, high_water: int) -> list[GoldSummary]:
    """What every rater answered to the gold that was mixed in, none where none was."""
    path = run / GOLD_FILE
    known = read_gold(path) if path.is_file() else {}
    by_rater: defaultdict[str, list[Annotation]] = defaultdict(list)
    for candidate in sorted(known):
        for row in _standing(store, candidate, high_water):
            by_rater[row.scores.rater].append(row)
    return [gold_summary(rater, gold_answers(known, by_rater[rater])) for rater in sorted(by_rater)]


def _sources(run: Path, info: BuildInfo) -> dict[str, str]:
    """The source image of every kept candidate, by its pixels."""
    return {
        sample.candidate.id: sample.request.sources[0].pixels_sha256
        for part in range(info.n_parts)
        for sample in read_kept(run, "gates", part)
        if sample.candidate
    }
