"""A build whose regions are outlined by the weights that come with the project: `--segmenter sam:tiny`, for real."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.editors.plan import make_plan
from pipeline.run.folder import read_build_info, read_kept
from pipeline.run.image_store import read_image
from runtime.checkout import CHECKOUT
from runtime.masks import rle_to_mask
from tests.integration.builds import build

PHOTOS = CHECKOUT / "examples" / "photos"


def test_the_small_sam_outlines_edits_of_photographs(tmp_path: Path) -> None:
    """Boxes are all it is told of; the editor knows the masks."""
    subprocess.run([sys.executable, str(PHOTOS / "copy_photos.py")], check=True, capture_output=True)
    run, requests = tmp_path / "run", tmp_path / "requests.jsonl"
    lines = (PHOTOS / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    requests.write_text("\n".join(lines[::4]), encoding="utf-8")
    shutil.copytree(PHOTOS / "images", tmp_path / "images")
    answer = build(run, "--requests", str(requests), "--size-px", "192", "--k", "2", "--segmenter", "sam:tiny")
    assert answer.returncode == 0, answer.stderr
    assert "outliner" in read_build_info(run).model_revisions
    found, wanted, back = [], [], []
    for row in (row for part in range(read_build_info(run).n_parts) for row in read_kept(run, "regions", part)):
        exact = make_plan(row.request, [read_image(run, ref) for ref in row.sources]).masks()
        for region in (region for region in row.observed if region.status == "changed"):
            assert region.origin in ("fusion", "segmenter")
            found.append(rle_to_mask(region.mask))
            wanted.append(exact[region.region])
            back += [region.cycle_iou] if region.cycle_iou is not None else []
    assert len(found) > 12
    right = np.mean([iou(*pair) for pair in zip(found, wanted, strict=True)])
    assert right > 0.6
    assert right > np.mean([iou(mask, mask[:, ::-1]) for mask in found]) + 0.2
    assert len(back) > 6
    assert np.mean(back) > 0.5


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))
