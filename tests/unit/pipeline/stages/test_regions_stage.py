"""The regions stage on targets that mean the whole image."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.editors.procedural import ProceduralEditor
from pipeline.gates.measures import GateSettings
from pipeline.run.plan import PlannedLine
from pipeline.stages.candidates import make_candidates
from pipeline.stages.regions import find_regions
from pipeline.stages.requests import open_requests
from schemas.sample import Sample
from tests.cases.part_images import InMemory


@pytest.mark.parametrize(("gain", "status"), [(1.0, "unchanged"), (1.35, "changed")])
def test_a_global_edit_is_changed_by_drift_and_not_by_a_codec(tmp_path: Path, gain: float, status: str) -> None:
    y, x = np.mgrid[:128, :128]
    source = np.stack([60 + x // 2 + 8 * np.sin(y / 5), 40 + y // 2, 90 + (x + y) // 4], axis=2).astype(np.uint8)
    Image.fromarray(source).save(tmp_path / "a.png")
    edited = np.clip(source * gain, 0, 255).astype(np.uint8)
    Image.fromarray(edited).save(tmp_path / "b.jpg", quality=88)
    line = {"id": "a", "sources": ["a.png"], "instruction": "Brighten it", "candidates": [{"path": "b.jpg"}]}
    line["targets"] = [{"label": "everything", "operation": "relight", "parameters": {"gain": 1.35}}]
    images = InMemory()
    planned = [PlannedLine(place="r:1", root=str(tmp_path), line=json.loads(json.dumps(line)))]
    rows = open_requests(planned, images, size_px=128, gates=GateSettings())
    kept = (row for row in rows if isinstance(row, Sample))
    made = make_candidates(kept, images, editor=ProceduralEditor, k=1, seed=0, gates=GateSettings())
    (found,) = find_regions((row for row in made if isinstance(row, Sample)), images, gates=GateSettings())
    assert [region.status for region in found.observed] == [status]
    assert found.observed[0].area_px == 128 * 128
