"""Installed packages that offer editors, and one editor: it inverts the image's colours and refuses one candidate."""

from pathlib import Path

INVERTER = """
import numpy as np
from pipeline.editors.protocol import CannotEdit, Edit
from schemas.errors import BadInput


class Inverter:
    name, revision, synthetic = "inverter", "7", True

    def __init__(self, refused):
        self.refused = refused

    def edit(self, request, sources, index, seed):
        if index == self.refused:
            raise CannotEdit("not_this_one", f"candidate {index}")
        image = sources[0].copy()
        image[: 20 + index] = 255 - image[: 20 + index]
        return Edit(image=np.ascontiguousarray(image), seed=seed, parameters={"strength": 1.0})


def make(place, device):
    if place is None or not place.isdecimal():
        raise BadInput("editor inverter", f"has no place {place}", "give a number")
    return Inverter(int(place))
"""


def offer(folder: Path, name: str, editors: dict[str, str]) -> Path:
    """An installed package without a file: metadata that offers editors. On `sys.path`, `folder` makes them known."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{editor} = {value}\n" for editor, value in editors.items())
    (metadata / "entry_points.txt").write_text(f"[regionwise.editors]\n{lines}")
    return folder


def offer_inverter(folder: Path) -> Path:
    """An installed package with the editor `inverter`, and `gone`, which it names and has not."""
    offer(folder, "inverters", {"inverter": "inverter_of_tests:make", "gone": "inverter_of_tests:nothing"})
    (folder / "inverter_of_tests.py").write_text(INVERTER)
    return folder
