"""The labelling interface: what stands in `labels.xml` and `ranking.xml`, and what a task's data says to them.

`python -m annotation.studio.interface` writes the answers of every scale and the list of issues into `labels.xml`, from
`schemas.score`; with `--check` it says whether they are current. The layout around them is written by hand.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from xml.sax.saxutils import quoteattr

from annotation.client import region_name
from runtime.files import write_whole
from schemas.errors import BadInput, RegionwiseError
from schemas.score import LEVEL_SCORES, Issue

LABELS_FILE = Path(__file__).with_name("labels.xml")
RANKING_FILE = Path(__file__).with_name("ranking.xml")
GUIDELINES = Path(__file__).with_name("guidelines")
Kind = Literal["regions", "ranking"]
NEW_REGION = "new region"
CANNOT_JUDGE = "cannot judge"
#: Colours that people with any kind of sight can tell apart (Okabe and Ito), in the order of the regions.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00")
#: A key for the mask of each of the first regions, none of them a tool's; with alt and shift it is for the box.
NAME_KEYS = "qtdfgzcypkl"


@dataclass(frozen=True)
class Scale:
    """One question with five answers. keys: one for each; meanings: what the lowest and the highest answer say."""

    keys: tuple[str, str, str, str, str]
    meanings: tuple[str, str, str, str, str]


def _with_shift(keys: str) -> tuple[str, str, str, str, str]:
    first, second, third, fourth, fifth = (f"shift+{key}" for key in keys)
    return first, second, third, fourth, fifth


SCALES: Mapping[str, Scale] = {
    "region_success": Scale(
        ("1", "2", "3", "4", "5"),
        ("not done", "hardly", "half done", "done with a flaw", "done exactly as asked"),
    ),
    "region_preserve": Scale(
        ("6", "7", "8", "9", "0"),
        ("ruined", "much changed that should not", "some", "barely", "nothing changed that should not"),
    ),
    "background": Scale(
        _with_shift("qwert"),
        ("ruined", "changed in many places", "changed in some", "barely changed", "exactly as it was"),
    ),
    "success": Scale(
        _with_shift("asdfg"),
        ("nothing of it done", "little", "half", "nearly all", "all of it done as asked"),
    ),
    "overedit": Scale(
        _with_shift("zxcvb"),
        ("a new image", "far too much", "too much", "a little too much", "no more than was asked"),
    ),
    "naturalness": Scale(
        _with_shift("yuiop"),
        ("cannot be real", "clearly edited", "odd in places", "nearly real", "as if it had been taken so"),
    ),
    "artifacts": Scale(
        _with_shift("67890"),
        ("broken everywhere", "many", "some", "one that you must look for", "none"),
    ),
}
#: A key and the words of every issue.
ISSUES: Mapping[Issue, tuple[str, str]] = {
    "missed": ("m", "missed"),
    "wrong_attribute": ("w", "wrong attribute"),
    "spill": ("s", "spill"),
    "artefact": ("a", "artefact"),
    "identity_changed": ("i", "identity changed"),
    "other": ("o", "other"),
}


def labels_config() -> str:
    """The labelling configuration for one candidate a task, as it is sent to the server."""
    return LABELS_FILE.read_text()


def ranking_config() -> str:
    """The labelling configuration for all candidates of one request a task."""
    return RANKING_FILE.read_text()


def guidelines(kind: Kind, picture_url: Callable[[Path], str | None]) -> str:
    """What annotators read before they begin, as HTML. picture_url: where the server shows a picture, None for nowhere.

    Label Studio drops pictures inside the text (data URIs), so they need an address of their own.
    """
    html = (GUIDELINES / f"{kind}.html").read_text()

    def placed(found: re.Match[str]) -> str:
        url = picture_url(GUIDELINES / found[1])
        return f'<img src={quoteattr(url)} width="{found[2]}">' if url else ""

    return re.sub(r'<img src="([a-z]+\.jpg)" width="(\d+)">', placed, html)


def ranking_candidates(urls: Mapping[str, str]) -> list[dict[str, str]]:
    """A ranking task's `candidates`, from the address of each candidate's image, in the order of `urls`."""
    return [
        {"id": candidate, "title": "", "html": f'<img src={quoteattr(url)} style="max-width: 100%; max-height: 20vh">'}
        for candidate, url in urls.items()
    ]


def region_labels(labels: Sequence[str]) -> list[dict[str, str]]:
    """The task's `region_labels`, for masks: name, colour and key of each of its regions, in their order."""
    return _labels(labels, "")


def region_boxes(labels: Sequence[str]) -> list[dict[str, str]]:
    """The task's `region_boxes`: the same names and colours for boxes, with keys of their own."""
    return _labels(labels, "alt+shift+")


def _labels(labels: Sequence[str], modifier: str) -> list[dict[str, str]]:
    """Every region has a key: Label Studio gives one that has none the next free letter, tools' keys too."""
    keys = [*NAME_KEYS, *(f"ctrl+alt+{key}" for key in NAME_KEYS)]
    return [
        {
            "value": region_name(index, label),
            "background": COLOURS[index % len(COLOURS)],
            "hotkey": modifier + keys[index % len(keys)],
        }
        for index, label in enumerate(labels)
    ]


def filled(xml: str) -> str:
    """A configuration with the answers of every scale and the issues written anew; the rest stays as it is.

    Raises: BadInput where it has no control of one of these names.
    """
    for name, scale in SCALES.items():
        answers = zip(range(len(LEVEL_SCORES)), scale.keys, scale.meanings, strict=True)
        xml = _fill(xml, name, [_choice(str(level), key, meaning) for level, key, meaning in answers])
    issues = [_choice(ISSUES[issue][1], ISSUES[issue][0], "", alias=issue) for issue in get_args(Issue)]
    return _fill(xml, "region_issues", issues)


def _choice(value: str, key: str, hint: str, alias: str | None = None) -> str:
    attributes = {"value": value, "alias": alias, "hotkey": key, "hint": f"{hint} [{key}]".strip()}
    return "<Choice " + " ".join(f"{name}={quoteattr(text)}" for name, text in attributes.items() if text) + "/>"


def _fill(xml: str, name: str, lines: Sequence[str]) -> str:
    pattern = re.compile(rf'( *)(<Choices name="{name}"[^>]*>).*?( *</Choices>)', re.DOTALL)
    if len(pattern.findall(xml)) != 1:
        raise BadInput(LABELS_FILE.name, f"does not have one Choices {name}", "put it back")

    def anew(found: re.Match[str]) -> str:
        inner = "".join(f"{found[1]}  {line}\n" for line in lines)
        return f"{found[1]}{found[2]}\n{inner}{found[1]}</Choices>"

    return pattern.sub(anew, xml)


def main(arguments: list[str]) -> int:
    """Writes the file, or with `--check` fails where it is not current."""
    text = LABELS_FILE.read_text()
    current = filled(text)
    if "--check" in arguments and current != text:
        raise BadInput(f"annotation/studio/{LABELS_FILE.name}", "is not current", "run `make schemas`")
    if current != text:
        write_whole(LABELS_FILE, current)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RegionwiseError as error:
        sys.exit(str(error))
