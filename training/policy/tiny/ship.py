"""Ships a pretrained tiny policy: `python -m training.policy.tiny.ship FOLDER` writes `weights/` beside this file.

Weights in half precision, `made.json` with how they were made and what they can do, and a picture to look at.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch

from runtime.exits import failed
from runtime.files import write_whole
from schemas.errors import BadInput, RegionwiseError
from training.policy.files import WEIGHTS
from training.policy.flux2 import load_pipeline
from training.policy.registry import make_policy
from training.policy.tiny.proof import proof

#: The most that the shipped weights may weigh.
MAX_BYTES = 12 * 2**20


def ship(pretrained: Path, out: Path = WEIGHTS) -> dict[str, object]:
    """Writes the policy of a pretraining into `out` and returns what stands in its `made.json`.

    Raises: BadInput where the folder holds no pretrained policy, or it is too heavy.
    """
    pipeline = load_pipeline(pretrained, torch.float16)
    shutil.rmtree(out, ignore_errors=True)
    pipeline.save_pretrained(str(out))
    for config in out.rglob("*.json"):
        document = json.loads(config.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.pop("_name_or_path", None) is not None:
            write_whole(config, json.dumps(document, indent=2, sort_keys=True) + "\n")
    weight = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if weight > MAX_BYTES:
        raise BadInput(str(out), f"weighs {weight} bytes", f"ship at most {MAX_BYTES}")
    made = json.loads((pretrained / "made.json").read_text(encoding="utf-8"))
    figures, shown = proof(make_policy("tiny", rank=1, alpha=1))
    document = {"schema": "tiny-policy/1", "synthetic": True, "made_by": "make policy-weights", **made}
    document["held_out"] = figures
    write_whole(out / "made.json", json.dumps(document, indent=1, sort_keys=True) + "\n")
    write_whole(out / "sheet.png", shown)
    return document


def main() -> int:
    """Ships a pretrained policy. Returns: exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.policy.tiny.ship", description=main.__doc__)
    parser.add_argument("pretrained", type=Path, help="folder of a pretraining")
    try:
        print(json.dumps(ship(parser.parse_args().pretrained)["held_out"], indent=1))
    except (RegionwiseError, OSError) as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
