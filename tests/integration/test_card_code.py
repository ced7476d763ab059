"""The code on a dataset's card, as somebody runs it who has the dataset alone."""

import subprocess
import sys
from pathlib import Path

from pipeline.dataset.card import write_card
from pipeline.dataset.shards import read_manifest


def test_the_code_on_the_card_reads_the_dataset(built_run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(built_run / "dataset")
    write_card(tmp_path, manifest)
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=built_run / "dataset", capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    train = [shard for shard in manifest.shards if shard.split == "train"]
    assert len({line.split()[0] for line in answer.stdout.splitlines()}) == sum(shard.samples for shard in train)
