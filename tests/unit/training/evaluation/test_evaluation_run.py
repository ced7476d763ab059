"""The evaluation as a process: it writes what the report reads, the same again, and bad settings are one line."""

from pathlib import Path

import pytest

from pipeline.report.images import Pictures
from pipeline.report.reward import reward_data
from schemas.reward import PhotoRow, RewardMetrics
from training.evaluation.reward_metrics import write_photos
from training.evaluation.run import main


def _run(out: Path, *more: str) -> int:
    return main(["--reward", "pixel-difference", "--out", str(out), "--sources", "4", *more])


def test_it_writes_what_the_report_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / "a" / "reward", tmp_path / "b" / "reward"]
    photographs = (PhotoRow(photo="a.png", n_pairs=3, auroc=0.5),)
    for folder in folders:
        write_photos(folder, photographs)
        assert _run(folder, "--rival", "source_blind=pixel-change", "--left-out", "noise") == 0
    assert '"n_pairs"' in capsys.readouterr().out
    first, second = (
        [path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()] for folder in folders
    )
    assert first == second
    metrics = RewardMetrics.from_json((folders[0] / "metrics.json").read_bytes(), thing="metrics")
    assert metrics.rivals["source_blind"] == metrics.rivals["pixel_change"]
    assert metrics.n_candidates == 12
    assert metrics.photos == photographs
    data = reward_data(tmp_path / "a", Pictures())
    assert data is not None
    assert len(data["best"]) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--rival", "pixel-change"), "has no `=`"),
        (("--rival", "a=nothing"), "is not known"),
        (("--left-out", "ghost"), "is not known"),
        (("--sources", "0"), "one or more"),
    ],
)
def test_bad_settings_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert _run(tmp_path, *more) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []
