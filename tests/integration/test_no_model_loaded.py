"""Who starts a build, looks at one or makes its cache keys loads no model and imports none of its packages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import BuildConfig
from runtime.checkout import CHECKOUT
from tests.cases.builds import build
from tests.cases.editor_plugin import offer_watched

LOOKING = """
import sys
from pathlib import Path
sys.path.insert(0, {packages!r})
from flows.commands import Processes, report_run, resume_run, show_status
from flows.deployments.build import part_key
from pipeline.prepare import prepare_run
from pipeline.config import BuildConfig
from pipeline.run.folder import STAGES

run, new = Path({run!r}), Path({new!r})
show_status(run, True)
resume_run(run, Processes(1), True)
report_run(run, None, 4, True)
keys = {{part_key(None, {{"run": str(run), "stage": stage, "part": 0}}) for stage in STAGES}}
assert len(keys) == len(STAGES)
settings = {{"scenes": 1, "editor": {editor!r}, "detector": {detector!r}, "segmenter": "sam:tiny"}}
prepare_run(new, BuildConfig.model_validate(settings))
print(*sys.modules)
"""


def test_nobody_loads_a_model_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, packages = tmp_path / "editor", tmp_path / "packages"
    monkeypatch.syspath_prepend(str(offer_watched(packages, place)))
    run = tmp_path / "run"
    editor = f"watched:{place}"
    build(run, BuildConfig(scenes=4, scene_size_px=64, size_px=64, k=2, editor=editor, max_reject_share=1))
    for mark in ("imported", "loaded"):
        (place / mark).unlink()
    shutil.rmtree(run / "gates")
    dino = tmp_path / "dino"
    dino.mkdir()
    (dino / "config.json").write_text(json.dumps({"model_type": "grounding-dino"}))
    (dino / "model.safetensors").write_bytes(b"weights")
    code = LOOKING.format(
        packages=str(packages),
        run=str(run),
        new=str(tmp_path / "new"),
        editor=editor,
        detector=f"grounding-dino:{dino}",
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *told, modules = done.stdout.splitlines()
    assert json.loads(told[1])["parts_made"] == 1  # gates, which ask no model
    heavy = {"torch", "transformers", "segment_anything", "groundingdino", "diffusers"}
    assert not heavy & set(modules.split())
    assert "watched_of_tests" not in modules
    assert sorted(path.name for path in place.iterdir()) == ["weights.bin"]
