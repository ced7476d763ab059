"""The controls of a labelling interface, read from its XML: what an annotator can answer, by name.

The XML may come from a server, where anybody may have changed it by hand: `compare` says what differs.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import BadInput

LABELS = "annotation/studio/labels.xml"
RANKING = "annotation/studio/ranking.xml"
MAX_CHARS = 1_000_000
#: Tags that an answer comes from, and the tags of their values.
CONTROLS = {
    "BrushLabels": "Label",
    "RectangleLabels": "Label",
    "Choices": "Choice",
    "TextArea": None,
    "Ranker": "Bucket",
}
#: Other tags that give answers; an interface with one of them is not ours.
OTHER_CONTROLS = (
    "Brush", "Ellipse", "EllipseLabels", "HyperText", "KeyPoint", "KeyPointLabels", "Labels", "Number", "Pairwise",
    "Polygon", "PolygonLabels", "Rating", "Rectangle", "Relations", "Taxonomy",
)  # fmt: skip


@dataclass(frozen=True)
class Control:
    """One control. kind: the type of its answers, in Label Studio's words; to: what it is about; values: what fits.

    per_region: whether every region has an answer of its own; single: whether an answer has at most one value;
    names: the task's data that hold further values, as `$field`.
    """

    kind: str
    to: str
    values: frozenset[str]
    per_region: bool = False
    single: bool = False
    names: str = ""


def read_controls(config: str, thing: str, file: str = LABELS) -> dict[str, Control]:
    """The controls of a labelling interface by name. Raises: BadInput, naming `thing`, where it cannot be read.

    file: where ours is written.
    """
    remedy = f"put {file} back as the project's labelling interface"
    if len(config) > MAX_CHARS:
        raise BadInput(thing, f"has a labelling interface of {len(config):,} characters", remedy)
    if "<!" in config.replace("<!--", ""):
        raise BadInput(thing, "has a labelling interface that declares entities", remedy)
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise BadInput(thing, f"has a labelling interface that is no XML ({error})", remedy) from None
    found: dict[str, Control] = {}
    for element in root.iter():
        if (element.tag not in CONTROLS and element.tag not in OTHER_CONTROLS) or "toName" not in element.attrib:
            continue
        name = element.get("name", "")
        if name in found:
            raise BadInput(thing, f"has two controls named {name[:80]!r}", remedy)
        found[name] = _control(element)
    return found


def _control(element: ElementTree.Element) -> Control:
    inner = CONTROLS.get(element.tag)
    values = list(element.iter(inner)) if inner else []
    return Control(
        kind=element.tag.lower(),
        to=element.get("toName", ""),
        values=frozenset(value.get("alias") or value.get("value") or value.get("name") or "" for value in values),
        per_region=element.get("perRegion", "").lower() == "true",
        single=element.tag == "Choices" and element.get("choice", "single") != "multiple",
        names=element.get("value", "") if element.tag != "Choices" else "",
    )


def compare(found: Mapping[str, Control], wanted: Mapping[str, Control]) -> list[str]:
    """What differs between two interfaces, one short phrase each; empty where they ask the same."""
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name[:40]} is not ours" for name in found if name not in wanted]
    for name in sorted(found.keys() & wanted.keys()):
        there, ours = found[name], wanted[name]
        if there.kind != ours.kind:
            faults.append(f"{name} is of type {there.kind}, not {ours.kind}")
        elif there.to != ours.to:
            faults.append(f"{name} is about {there.to[:40]}, not {ours.to}")
        elif there.values != ours.values:
            others = ", ".join(sorted(value[:40] for value in there.values ^ ours.values))
            faults.append(f"{name} has other values ({others})")
        elif (there.per_region, there.single, there.names) != (ours.per_region, ours.single, ours.names):
            faults.append(f"{name} is asked in another way")
    return faults
