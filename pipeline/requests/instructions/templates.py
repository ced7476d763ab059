"""Targets -> an instruction in plain English, from templates.

The wording is chosen by a hash of the targets: the same targets always give the same sentence. It says what a target
asks for and names its label; it does not read instructions, and one call speaks for one turn.
"""

from collections.abc import Sequence

from schemas.geometry import Box
from schemas.record import Scalar, short_hash
from schemas.request import Target

#: Operation -> clauses, each an order that can stand alone. {the}: the thing; {a}: the thing, not there yet.
CLAUSES: dict[str, tuple[str, ...]] = {
    "recolour": (
        "make {the} {color}",
        "turn {the} {color}",
        "change the color of {the} to {color}",
        "paint {the} {color}",
        "recolor {the} in {color}",
    ),
    "remove": ("remove {the}", "take {the} away", "erase {the}", "delete {the}", "get rid of {the}"),
    "replace": (
        "replace {the} with {other}",
        "swap {the} for {other}",
        "turn {the} into {other}",
        "put {other} where {the} is",
    ),
    "insert": ("add {a}{where}", "put {a}{where}", "place {a}{where}", "insert {a}{where}", "draw {a}{where}"),
    "texture": (
        "cover {the} with {pattern}",
        "give {the} a pattern of {pattern}",
        "fill {the} with {pattern}",
        "decorate {the} with {pattern}",
    ),
    "blur": ("blur {the}", "make {the} blurry", "put {the} out of focus", "soften {the} until it looks out of focus"),
    "brighten": ("brighten {the}", "make {the} brighter", "light up {the}", "put {the} in brighter light"),
    "darken": ("darken {the}", "make {the} darker", "put {the} in the shade", "dim {the}"),
    "move": ("move {the}{way}", "shift {the}{way}", "slide {the}{way}"),
    "grow": ("make {the} bigger", "enlarge {the}", "scale {the} up"),
    "shrink": ("make {the} smaller", "shrink {the}", "scale {the} down"),
    "text": (
        'write "{text}" on {the}{in_color}',
        'put the word "{text}" on {the}{in_color}',
        'print "{text}" on {the}{in_color}',
        'add the text "{text}" to {the}{in_color}',
    ),
    "other": ("edit {the}", "change {the}"),
}
_PATTERN_WORDS = {
    "stripes": "stripes",
    "checker": "a checkerboard",
    "dots": "dots",
    "waves": "waves",
    "bricks": "bricks",
    "noise": "speckles",
}
_OPENINGS = ("", "", "", "", "please ", "in this picture, ")
_PAIRS = ("{0} and {1}", "{0}, and {1}", "{0}, then {1}", "{0}. Also, {1}")
_MANY = ("{0}, {1}, and {2}", "{0}, {1}, then {2}", "{0} and {1}. Then {2}")


def instruction_for(
    targets: Sequence[Target], size_px: tuple[int, int] | None = None, wording: int | None = None
) -> str:
    """The targets as one instruction that names the label of each.

    size_px: (width, height) of the image; where it is given, something to be added is told its place.
    wording: another way to say the same for every number.
    Raises: ValueError where there are no targets.
    """
    if not targets:
        raise ValueError("an instruction needs at least one target")
    salt = [] if wording is None else [wording]
    key = short_hash("instruction", [_spoken(target) for target in targets], *salt)
    clauses = [_clause(target, short_hash(key, index), size_px) for index, target in enumerate(targets)]
    opening = _choose(_OPENINGS, short_hash(key, "opening"))
    return _sentence(opening + _joined(clauses, short_hash(key, "join")))


def _spoken(target: Target) -> dict[str, object]:
    return target.model_dump(mode="json", exclude={"mask"})


def _choose(options: tuple[str, ...], key: str) -> str:
    return options[int(key, 16) % len(options)]


def _joined(clauses: list[str], key: str) -> str:
    if len(clauses) == 1:
        return clauses[0]
    if len(clauses) == 2:
        return _fill(_choose(_PAIRS, key), {"0": clauses[0], "1": clauses[1]})
    *early, last = clauses
    return _fill(_choose(_MANY, key), {"0": ", ".join(early[:-1]), "1": early[-1], "2": last})


def _fill(template: str, words: dict[str, str]) -> str:
    """`str.format` for words from outside: braces in a label stay as they are."""
    text = template.replace("{", "\x00{")
    for name, word in words.items():
        text = text.replace(f"\x00{{{name}}}", word.replace("\x00", ""))
    return text.replace("\x00", "")


def _clause(target: Target, key: str, size_px: tuple[int, int] | None) -> str:
    parameters = target.parameters
    words = {
        "the": _with_the(target.label),
        "a": _with_a(target.label) + _origin(target),
        "color": _word(parameters.get("color"), "another color"),
        "in_color": f" in {parameters['color']}" if parameters.get("color") else "",
        "other": _with_a(" ".join(str(parameters[k]) for k in ("color", "shape") if parameters.get(k)) or "new thing"),
        "pattern": _PATTERN_WORDS.get(str(parameters.get("texture")), _word(parameters.get("texture"), "a pattern")),
        "text": _word(parameters.get("text"), "text"),
        "where": _where(target.box, size_px),
        "way": _way(target.box, target.destination),
    }
    return _fill(_choose(CLAUSES[_clause_kind(target)], key), words)


def _clause_kind(target: Target) -> str:
    if target.operation == "relight":
        gain = target.parameters.get("gain")
        return "darken" if isinstance(gain, int | float) and gain < 1 else "brighten"
    if target.operation == "resize":
        return "shrink" if _area(target.destination) < _area(target.box) else "grow"
    if target.operation == "other":
        return {"add": "insert", "remove": "remove", "change": "other"}[target.role]
    return target.operation


def _area(box: Box | None) -> int:
    return (box[2] - box[0]) * (box[3] - box[1]) if box else 0


def _word(value: Scalar, otherwise: str) -> str:
    return str(value) if value not in (None, "") else otherwise


def _with_the(label: str) -> str:
    starts = ("the ", "his ", "her ", "its ", "their ", "a ", "an ")
    return label if label.lower().startswith(starts) else f"the {label}"


def _with_a(label: str) -> str:
    if label.lower().startswith(("a ", "an ", "the ", "some ", "two ", "three ")):
        return label
    return f"{'an' if label[:1].lower() in 'aeio' else 'a'} {label}"


def _origin(target: Target) -> str:
    return f" from image {target.reference.source + 1}" if target.reference else ""


def _where(box: Box | None, size_px: tuple[int, int] | None) -> str:
    """The place of a box in words: " in the upper left", " at the bottom", " in the middle"; "" where unknown."""
    if box is None or size_px is None:
        return " to the picture" if box is None else ""
    across = ("left", "", "right")[min(2, 3 * (box[0] + box[2]) // (2 * size_px[0]))]
    down = ("upper", "", "lower")[min(2, 3 * (box[1] + box[3]) // (2 * size_px[1]))]
    if across and down:
        return f" in the {down} {across}"
    if across:
        return f" on the {across}"
    return {"upper": " at the top", "lower": " at the bottom", "": " in the middle"}[down]


def _way(box: Box | None, destination: Box | None) -> str:
    """The direction of a move in words: " to the left", " up and to the right"."""
    if box is None or destination is None:
        return " to another place"
    right = (destination[0] + destination[2]) - (box[0] + box[2])
    down = (destination[1] + destination[3]) - (box[1] + box[3])
    across = "to the right" if right > 0 else "to the left"
    along = "down" if down > 0 else "up"
    if abs(right) > 2 * abs(down):
        return f" {across}"
    return f" {along}" if abs(down) > 2 * abs(right) else f" {along} and {across}"


def _sentence(text: str) -> str:
    """Upper case at the start, a full stop at the end."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
