"""What exactly shall be done to a target: the request's own words, never a guess at what they might have meant.

A request that does not say which colour, shape, texture or words is refused: whatever was painted instead would be
scored as if it had been asked for. Amounts (how blurred, how bright) and the colour of letters may stay open; open
choices hang on the request and the target alone, so all candidates of a request share them.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.editors.figures import TEXTURES
from pipeline.editors.operations import mean_lab
from pipeline.editors.protocol import CannotEdit
from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.geometry import Box
from schemas.record import Scalar
from schemas.request import Operation, Reference, Target

SIGMA_RANGE_PX = (0.5, 64.0)
GAIN_RANGE = (0.05, 4.0)
TEXT_MAX_CHARS = 40
#: What a target without an operation asks for, where its role says it.
OF_ROLE: dict[str, Operation] = {"remove": "remove", "add": "insert"}
VOCABULARY = "recolour, remove, replace, insert, texture, blur, relight, move, resize, text"
#: A colour this far (CIE Lab) from what is there is plainly another one.
_VISIBLE_LAB = 45.0


@dataclass(frozen=True)
class Order:
    """One operation with every parameter settled. box: where a drawn thing goes; None for the whole image."""

    operation: Operation
    parameters: dict[str, Scalar]
    box: Box | None
    destination: Box | None = None
    reference: Reference | None = None


def order_of(target: Target, image: ImageU8, mask: MaskBool, rng: np.random.Generator) -> Order:
    """The order that `target` gives; what it leaves open is drawn from `rng`, and drawn so that it can be seen.

    Raises: CannotEdit with reason `unknown_operation` for one that the vocabulary lacks, `missing_parameter` or
    `bad_parameter` for a word or number, `no_destination` for a move or resize that does not say where to.
    """
    operation = OF_ROLE.get(target.role, target.operation) if target.operation == "other" else target.operation
    if operation == "other":
        raise CannotEdit("unknown_operation", f"{target.label!r}: operation {operation!r} is none of {VOCABULARY}")
    if operation in ("move", "resize") and target.destination is None:
        raise CannotEdit(
            "no_destination", f"{target.label!r} shall {operation}, but has no destination; give it a box there"
        )
    target = target.model_copy(update={"operation": operation})
    here = mean_lab(image, mask)
    needed = _needed(operation, target)
    _check_names(target, [name for name, _ in needed if name != "phase"])
    parameters = {name: value(target, here, rng) for name, value in needed}
    return Order(operation, parameters, target.box, target.destination, target.reference)


def _needed(operation: Operation, target: Target) -> list[tuple[str, Any]]:
    """The parameters that an operation needs, each with the function that settles it."""
    drawn = [] if target.reference else [("shape", _shape), ("color", _colour)]
    needed: dict[str, list[tuple[str, Any]]] = {
        "recolour": [("color", _colour)],
        "replace": drawn,
        "insert": drawn,
        "texture": [("texture", _texture), ("phase", _phase)],
        "blur": [("sigma_px", _sigma)],
        "relight": [("gain", _gain)],
        "text": [("text", _words), ("color", _colour)],
    }
    return needed.get(operation, [])


def _check_names(target: Target, known: list[str]) -> None:
    unknown = sorted(set(target.parameters) - set(known))
    if unknown:
        fault = f"{target.operation} takes {', '.join(known) or 'no parameters'}, not {unknown[0][:40]!r}"
        raise CannotEdit("bad_parameter", f"{target.label!r}: {fault}")


def _colour(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    if target.operation != "text" or "color" in target.parameters:
        return _word(target, "color", tuple(COLOURS))
    plain = [name for name in COLOURS if colour_distance(colour_lab(name), here) >= _VISIBLE_LAB] or list(COLOURS)
    return plain[int(rng.integers(len(plain)))]


def _shape(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    return _word(target, "shape", SHAPES)


def _texture(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    return _word(target, "texture", TEXTURES)


def _word(target: Target, name: str, known: tuple[str, ...]) -> str:
    given = target.parameters.get(name)
    if given is None:
        fault = f"{target.operation} needs the parameter {name}, one of {', '.join(known)}"
        raise CannotEdit("missing_parameter", f"{target.label!r}: {fault}")
    if given not in known:
        raise CannotEdit("bad_parameter", f"{name} {str(given)[:40]!r} is not one of {', '.join(known)}")
    return str(given)


def _phase(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 16))


def _words(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    words = " ".join(str(target.parameters.get("text") or "").split())
    if not words:
        raise CannotEdit("missing_parameter", f"{target.label!r}: text needs the parameter text, the words to write")
    if len(words) > TEXT_MAX_CHARS or not words.isascii():
        fault = f"text is ASCII of at most {TEXT_MAX_CHARS} characters (the embedded font has no others)"
        raise CannotEdit("bad_parameter", f"{target.label!r}: {fault}")
    return words


def _sigma(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> float:
    return _number(target, "sigma_px", 6.0, SIGMA_RANGE_PX)


def _gain(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> float:
    return _number(target, "gain", 0.5 if here[0] > 45 else 1.7, GAIN_RANGE)


def _number(target: Target, name: str, open_choice: float, allowed: tuple[float, float]) -> float:
    given = target.parameters.get(name)
    if given is None:
        return open_choice
    if isinstance(given, bool) or not isinstance(given, int | float) or not allowed[0] <= given <= allowed[1]:
        raise CannotEdit("bad_parameter", f"{name} {str(given)[:40]!r} is no number in {allowed[0]} to {allowed[1]}")
    return float(given)


def wrong_order(order: Order, distance_lab: float, rng: np.random.Generator) -> Order:
    """An order that does something else than asked: another colour, shape, pattern, or the light the other way.

    distance_lab: how far from the asked result the wrong one shall be; a wrong colour is taken about so far off, so
    that a slight mistake is a colour nearby and not a mixture that gives itself away. A drawn thing has the right
    shape then, and another one from `_VISIBLE_LAB` on.
    """
    asked = order.parameters
    if order.operation in ("insert", "replace") and "shape" in asked:
        shape = asked["shape"] if distance_lab < _VISIBLE_LAB else _another(SHAPES, asked["shape"], rng)
        return replace(
            order, parameters={"shape": shape, "color": _wrong_colour(str(asked["color"]), distance_lab, rng)}
        )
    if order.operation == "texture":
        return replace(order, parameters={"texture": _another(TEXTURES, asked["texture"], rng), "phase": 0})
    if order.operation == "relight":
        gain = rng.uniform(0.42, 0.62) if float(asked["gain"] or 1) > 1 else rng.uniform(1.75, 2.2)
        return replace(order, parameters={"gain": round(float(gain), 2)})
    if order.operation == "text":
        words = str(asked["text"])[::-1].swapcase() + "?"
        return replace(
            order, parameters={"text": words, "color": _wrong_colour(str(asked["color"]), distance_lab, rng)}
        )
    if order.operation == "recolour":
        return replace(order, parameters={"color": _wrong_colour(str(asked["color"]), distance_lab, rng)})
    colour = _another(tuple(COLOURS), None, rng)
    return replace(order, operation="recolour", parameters={"color": colour}, reference=None)


def _another(known: tuple[str, ...], asked: Scalar, rng: np.random.Generator) -> str:
    others = [name for name in known if name != asked]
    return others[int(rng.integers(len(others)))]


def _wrong_colour(asked: str, distance_lab: float, rng: np.random.Generator) -> str:
    """One of the three colours nearest to `distance_lab` away from the asked one, rather more than less."""
    away = {c: colour_distance(colour_lab(c), colour_lab(asked)) for c in COLOURS if c != asked}
    far_enough = sorted((c for c in away if away[c] >= distance_lab), key=lambda c: away[c])[:3]
    return far_enough[int(rng.integers(len(far_enough)))] if far_enough else max(away, key=lambda c: away[c])
