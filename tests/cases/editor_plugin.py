"""An editor that an installed package offers: it turns the image's colours around and refuses what its place says."""

from pathlib import Path

from tests.cases.tiny_policy import offer

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


def offer_inverter(folder: Path) -> Path:
    """An installed package with the editor `inverter`, and `gone`, which it names and has not."""
    offer(folder, "inverters", {"inverter": "inverter_of_tests:make", "gone": "inverter_of_tests:nothing"})
    (folder / "inverter_of_tests.py").write_text(INVERTER)
    return folder
