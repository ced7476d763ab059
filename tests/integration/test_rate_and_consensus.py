"""From a finished run through simulated raters and their consensus to a dataset that says who scored it."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.raters.consensus import consensus
from annotation.store import open_store, store_path
from flows.cli import main
from pipeline.dataset.consensus_files import (
    AGREEMENT_FILE,
    RANKINGS_FILE,
    consensus_digests,
    consensus_stage,
    read_consensus,
)
from pipeline.dataset.scores import RowScores, row_scores, snapshot_of
from pipeline.dataset.shards import read_dataset, read_manifest
from pipeline.dataset.verify import verify
from pipeline.run.folder import read_kept
from runtime.locks import locked
from schemas.agreement import Agreement
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, RunInUse
from schemas.ranking import RankingConsensus
from schemas.score import region_reward
from tests.cases.rater_cases import annotation, ranking, scores

SPLITS = ("train", "validation", "test")


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as caught:
        main([*(str(argument) for argument in arguments), "--json"])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), json.loads(captured.out or captured.err)


def _rated(capsys: pytest.CaptureFixture[str], run: Path, snapshot: str = "first", *flags: object) -> dict[str, Any]:
    code, facts = _run(capsys, "rate", "--run", run, "--raters", 3, "--random", 1, "--snapshot", snapshot, *flags)
    assert code == 0
    assert _run(capsys, "consensus", "--run", run, "--snapshot", snapshot)[0] == 0
    return facts


@pytest.fixture(scope="module")
def rated(built_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with the consensus of snapshot `first`, never changed, and what the rating said."""
    run = shutil.copytree(built_run, tmp_path_factory.mktemp("rated") / "run")
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as caught:
        main(["rate", "--run", str(run), "--raters", "3", "--random", "1", "--snapshot", "first", "--json"])
    assert not caught.value.code
    with redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as caught:
        main(["consensus", "--run", str(run), "--snapshot", "first", "--json"])
    assert not caught.value.code
    return run, json.loads(said.getvalue())


@pytest.fixture
def rated_run(rated: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the rated run, to change."""
    return shutil.copytree(rated[0], tmp_path / "rated")


def _rows(run: Path) -> list[DatasetRow]:
    return [row for split in SPLITS for _, row, _ in read_dataset(run / "dataset", split)]


def _hashes(run: Path) -> dict[str, str]:
    return {shard.name: shard.sha256 for shard in read_manifest(run / "dataset").shards}


def test_rows_carry_the_consensus_with_its_spread(
    rated: tuple[Path, dict[str, Any]], rated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [row for part in range(3) for row in read_kept(rated_run, "gates", part)]
    facts = rated[1]
    assert (facts["new"], facts["tasks"], facts["synthetic"]) == (4 * len(kept), len(kept), True)
    code, _ = _run(capsys, "export", "--run", rated_run, "--scores", "consensus:first")
    manifest, faults = verify(rated_run / "dataset")
    assert (code, faults, manifest.scores, manifest.unscored) == (0, [], "consensus:first", 0)
    assert manifest.raters == {"consensus:first": manifest.rows}
    assert "consensus:first" in (rated_run / "dataset" / "README.md").read_text()
    found = {key: row for part in range(3) for key, row in read_consensus(rated_run, "first", part).items()}
    for row in _rows(rated_run):
        said = found[row.candidate]
        assert (row.background, row.rater) == (said.background.mean, "consensus:first")
        assert row.spreads["background"].n_raters + row.spreads["background"].n_missing == 4
        assert row.spreads["artifacts"].spread == said.artifacts.spread
        assert row.synthetic_parts[-1] == "scores"
        by_key = {region.region: region for region in said.regions}
        for region in row.regions:
            mean = by_key[region.region].success if region.region in by_key else None
            assert region.success == (mean.mean if mean else None)
            assert region.reward == region_reward(region.phi, row.aesthetics)
            assert set(region.spreads) == ({"success", "preserve"} if mean else set())


def test_the_same_raters_give_the_same_bytes(
    built_run: Path, rated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes, digests = [], []
    again = shutil.copytree(built_run, tmp_path / "again")
    _rated(capsys, again)
    for run in (rated_run, again):
        _run(capsys, "export", "--run", run, "--scores", "consensus:first")
        hashes.append(_hashes(run))
        digests.append(consensus_digests(run, "first", 3))
    assert hashes[0] == hashes[1]
    assert digests[0] == digests[1]


def test_agreement_stands_beside_the_consensus_and_says_which_method(
    rated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rated_run / "consensus" / "first" / "agreement.json"
    found = Agreement.from_json(path.read_bytes(), thing=str(path))
    kept = sum(1 for part in range(3) for _ in read_kept(rated_run, "gates", part))
    assert (found.snapshot, found.method, found.n_candidates, found.n_annotations) == (
        "first",
        "latent-1",
        kept,
        4 * kept,
    )
    assert (found.bootstrap, len(found.raters), found.synthetic) == ("sources", 4, True)
    assert {row.method for row in read_consensus(rated_run, "first", 0).values()} == {"latent-1"}
    before, parts = path.read_bytes(), consensus_digests(rated_run, "first", 3)
    assert _run(capsys, "consensus", "--run", rated_run, "--snapshot", "first")[0] == 0
    assert (path.read_bytes(), consensus_digests(rated_run, "first", 3)) == (before, parts)
    code, facts = _run(capsys, "consensus", "--run", rated_run, "--snapshot", "first", "--method", "huber")
    assert (code, facts["method"]) == (0, "huber-3.125")
    assert {row.method for row in read_consensus(rated_run, "first", 0).values()} == {"huber-3.125"}
    assert consensus_digests(rated_run, "first", 3) != parts


def test_another_snapshot_makes_the_tars_anew_and_the_last_choice_is_kept(
    rated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = _hashes(rated_run)
    _rated(capsys, rated_run, "second", "--seed", 1)
    assert [row.spreads for row in _rows(rated_run) if row.spreads] == []
    seen = {}
    for scores_ in ("consensus:first", "consensus:second", "oracle"):
        assert _run(capsys, "export", "--run", rated_run, "--scores", scores_)[0] == 0
        assert verify(rated_run / "dataset")[1] == []
        seen[scores_] = _hashes(rated_run)
    assert seen["oracle"] == oracle
    assert len({json.dumps(hashes) for hashes in seen.values()}) == 3
    _run(capsys, "export", "--run", rated_run, "--scores", "consensus:second")
    tars = sorted((rated_run / "dataset").glob("*.tar"))
    tars[0].unlink()
    assert _run(capsys, "resume", "--run", rated_run)[0] == 0
    assert _hashes(rated_run) == seen["consensus:second"]
    counts = {spread.n_raters + spread.n_missing for row in _rows(rated_run) for spread in row.spreads.values()}
    assert counts == {8}


def test_rating_again_adds_nothing_and_a_half_rated_run_is_finished(
    small_run: Path, rated: tuple[Path, dict[str, Any]], rated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, facts = rated_run, rated[1]
    before = consensus_digests(whole, "first", 3)
    assert _rated(capsys, whole)["new"] == 0
    assert _rated(capsys, whole, "again")["new"] == 0
    assert consensus_digests(whole, "first", 3) == before
    candidates = [row.candidate.id for row in read_kept(small_run, "gates", 0) if row.candidate]
    with open_store(store_path(whole)) as full, open_store(store_path(small_run), create=True) as half:
        half.add([answer for candidate in candidates for answer in full.annotations(candidate, 10**6)])
        done = half.count()
    assert _rated(capsys, small_run)["new"] == facts["new"] - done > 0
    assert consensus_digests(small_run, "first", 3) == before


def test_a_candidate_that_nobody_rated_has_missing_scores_and_is_counted(
    small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _rows(small_run)
    chosen = rows[0]
    said = scores(19, chosen.candidate, [chosen.regions[0].region], "person-1").model_copy(update={"synthetic": False})
    with open_store(store_path(small_run), create=True) as store:
        store.add([annotation(said)])
        store.take_snapshot("one")
    code, facts = _run(capsys, "consensus", "--run", small_run, "--snapshot", "one")
    kept = sum(1 for part in range(3) for _ in read_kept(small_run, "gates", part))
    assert (code, facts["candidates"], facts["not_rated"], facts["synthetic"]) == (0, 1, kept - 1, 0)
    assert _run(capsys, "export", "--run", small_run, "--scores", "consensus:one")[0] == 0
    manifest, faults = verify(small_run / "dataset")
    assert (faults, manifest.unscored, manifest.raters) == ([], len(rows) - 1, {"consensus:one": 1})
    for row in _rows(small_run):
        if row.candidate == chosen.candidate:
            assert (row.background, row.regions[0].phi, row.spreads["success"].spread) == (19, 19, None)
            assert "scores" not in row.synthetic_parts
        else:
            assert (row.rater, row.background, row.aesthetics, row.spreads) == (None, None, None, {})
            assert {region.reward for region in row.regions} == {None}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["consensus", "--snapshot", "first"], "has no annotations"),
        (["export", "--scores", "consensus:first"], "no whole consensus of snapshot first"),
        (["export", "--scores", "consensus:../.."], "no source of scores"),
        (["export", "--scores", "people"], "no source of scores"),
        (["rate", "--snapshot", "../up"], "is no name"),
        (["rate", "--snapshot", "a", "--raters", "0"], "are none"),
    ],
)
def test_bad_settings_are_one_line_and_change_nothing(
    small_run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    before = _hashes(small_run)
    code, error = _run(capsys, *arguments, "--run", small_run)
    assert (code, error["code"]) == (2, 2)
    assert fault in error["fault"]
    assert _hashes(small_run) == before
    assert not store_path(small_run).exists()


def test_unknown_snapshots_and_taken_names_are_exit_code_2(rated_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = _run(capsys, "consensus", "--run", rated_run, "--snapshot", "other")
    assert (code, error["remedy"]) == (2, "there are: first")
    code, error = _run(capsys, "rate", "--run", rated_run, "--seed", 9, "--snapshot", "first")
    assert (code, error["fault"]) == (2, "exists and is of other raters")


def test_a_damaged_consensus_is_named_and_made_anew(rated_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = consensus_digests(rated_run, "first", 3)
    path = rated_run / "consensus" / "first" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    code, error = _run(capsys, "export", "--run", rated_run, "--scores", "consensus:first")
    assert (code, error["thing"], error["fault"]) == (1, str(path), "is not as it was written")
    assert _run(capsys, "consensus", "--run", rated_run, "--snapshot", "first")[0] == 0
    assert consensus_digests(rated_run, "first", 3) == before


def test_a_run_without_the_oracles_scores_cannot_be_rated(
    tmp_path: Path, built_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.run.folder import rows_path, write_rows

    run = shutil.copytree(built_run, tmp_path / "run")
    for part in range(3):
        rows = [row.model_copy(update={"scores": ()}) for row in read_kept(run, "gates", part)]
        write_rows(rows_path(run, "gates", part), rows)
    code, error = _run(capsys, "rate", "--run", run, "--snapshot", "first")
    assert (code, "no candidate with the oracle's scores" in error["fault"]) == (2, True)
    assert not store_path(run).exists()


@given(st.text(max_size=80))
def test_only_a_snapshots_name_gets_through(text: str) -> None:
    try:
        name = snapshot_of(f"consensus:{text}")
    except BadInput:
        return
    assert name == text
    assert not set(text) & set("./\\ \n")


def test_a_rows_own_scores_and_the_oracles_are_told_apart(built_run: Path) -> None:
    sample = next(iter(read_kept(built_run, "gates", 0)))
    assert sample.candidate is not None
    person = scores(6, sample.candidate.id, [], "person-1").model_copy(update={"synthetic": False})
    both = sample.model_copy(update={"scores": (person, *sample.scores)})
    assert row_scores(both, "rows", {}).rater == "person-1"
    assert row_scores(both, "oracle", {}).rater == "oracle:construction"
    assert row_scores(sample.model_copy(update={"scores": (person,)}), "oracle", {}) == RowScores()
    said = consensus([annotation(person)], "one")
    assert row_scores(both, "consensus:one", {sample.candidate.id: said}).background == 6
    assert row_scores(both, "consensus:one", {}) == RowScores()


def test_where_people_only_ranked_the_consensus_is_of_rankings(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    with open_store(store_path(run), create=True) as store:
        store.add([ranking("ab"), ranking("ab", rater="rater-2")])
        store.take_snapshot("ranked")
        store.add([ranking("ba", rater="rater-3")])
    code, facts = _run(capsys, "consensus", "--run", run, "--snapshot", "ranked")
    assert (code, facts["ranked_requests"], facts["candidates"]) == (0, 1, 0)
    (line,) = (run / consensus_stage("ranked") / RANKINGS_FILE).read_text().splitlines()
    found = RankingConsensus.from_json(line, thing="line")
    assert [(one.candidate, one.mean_rank, one.wins) for one in found.candidates] == [
        ("a" * 16, 1, 2),
        ("b" * 16, 2, 0),
    ]


def test_everything_of_a_consensus_is_written_by_who_holds_the_run(
    capsys: pytest.CaptureFixture[str], rated_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(path: Path, text: str) -> None:
        with pytest.raises(RunInUse), locked(rated_run):
            pass
        written.append(path.name)

    written = list[str]()
    monkeypatch.setattr("flows.consensus.write_whole", held)
    with open_store(store_path(rated_run)) as store:
        store.add([ranking("ab")])
        store.take_snapshot("ranked")
    assert _run(capsys, "consensus", "--run", rated_run, "--snapshot", "ranked")[0] == 0
    assert written == [AGREEMENT_FILE, RANKINGS_FILE]


def test_a_full_disk_is_told_before_the_work_and_with_room_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> set[Path]:
        return {path for path in small_run.rglob("*") if path.name not in (".lock", ".lock.json")}

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    for command, place in (("rate", store_path(small_run)), ("consensus", small_run / consensus_stage("s"))):
        before = files()
        code, said = _run(capsys, command, "--run", small_run, "--snapshot", "s")
        assert (code, said["thing"]) == (2, str(place))
        assert re.match(r"[\d,]+ bytes are needed and 20,000 are free", said["fault"])
        assert said["remedy"].startswith("make room and start again")
        assert files() | {store_path(small_run)} == before | {store_path(small_run)}
        with monkeypatch.context() as room:
            room.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
            assert _run(capsys, command, "--run", small_run, "--snapshot", "s")[0] == 0
    assert _run(capsys, "rate", "--run", small_run, "--snapshot", "s")[0] == 0  # nothing is to be written
