"""What exactly shall be done to a target: the request's own words, and a visible choice where they leave it open.

Open choices hang on the request and the target alone, so all candidates of a request share them.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.backends import CannotEdit
from pipeline.editors.figures import TEXTURES
from pipeline.editors.operations import mean_lab
from pipeline.images import ImageU8, MaskBool
from pipeline.shapes import COLOURS, SHAPES, colour_distance, colour_lab
from schemas.geometry import Box
from schemas.record import Scalar
from schemas.request import Operation, Reference, Target

SIGMA_RANGE_PX = (0.5, 64.0)
GAIN_RANGE = (0.05, 4.0)
TEXT_MAX_CHARS = 40
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

    Raises: CannotEdit with reason `bad_parameter` for a word or number that the vocabulary lacks, or
    `no_destination` for a move or resize that does not say where to.
    """
    operation = target.operation
    if operation == "other":
        open_choice: Operation = "recolour" if rng.random() < 0.6 else "texture"
        operation = {"remove": "remove", "add": "insert", "change": open_choice}[target.role]  # type: ignore[assignment]
    if operation in ("move", "resize") and target.destination is None:
        raise CannotEdit("no_destination", f"{target.label!r} shall {operation}, but has no destination")
    here = mean_lab(image, mask)
    parameters = {name: value(target, here, rng) for name, value in _needed(operation, target)}
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


def _colour(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    plain = [name for name in COLOURS if colour_distance(colour_lab(name), here) >= _VISIBLE_LAB]
    return _word(target, "color", tuple(COLOURS), plain or list(COLOURS), rng)


def _shape(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    return _word(target, "shape", SHAPES, list(SHAPES), rng)


def _texture(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    return _word(target, "texture", TEXTURES, list(TEXTURES), rng)


def _word(target: Target, name: str, known: tuple[str, ...], open_choice: list[str], rng: np.random.Generator) -> str:
    given = target.parameters.get(name)
    if given is None:
        return open_choice[int(rng.integers(len(open_choice)))]
    if given not in known:
        raise CannotEdit("bad_parameter", f"{name} {str(given)[:40]!r} is not one of {', '.join(known)}")
    return str(given)


def _phase(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 16))


def _words(target: Target, here: tuple[float, float, float], rng: np.random.Generator) -> str:
    given = target.parameters.get("text")
    words = " ".join(str("HELLO" if given is None else given).split())[:TEXT_MAX_CHARS]
    if not words:
        raise CannotEdit("bad_parameter", f"{target.label!r} shall get a text, but it is empty")
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

    distance_lab: how far the asked edit moves the pixels; a wrong colour is taken about as far off.
    """
    asked = order.parameters
    if order.operation in ("insert", "replace") and "shape" in asked:
        shape = _another(SHAPES, asked["shape"], rng)
        return replace(
            order, parameters={"shape": shape, "color": _wrong_colour(str(asked["color"]), distance_lab, rng)}
        )
    if order.operation == "texture":
        return replace(order, parameters={"texture": _another(TEXTURES, asked["texture"], rng), "phase": 0})
    if order.operation == "relight":
        return replace(order, parameters={"gain": 0.45 if float(asked["gain"] or 1) > 1 else 1.7})
    if order.operation == "text":
        words = str(asked["text"])[::-1].swapcase() + "?"
        return replace(
            order, parameters={"text": words, "color": _wrong_colour(str(asked["color"]), distance_lab, rng)}
        )
    if order.operation == "recolour":
        return replace(order, parameters={"color": _wrong_colour(str(asked["color"]), distance_lab, rng)})
    return replace(
        order, operation="recolour", parameters={"color": _another(tuple(COLOURS), None, rng)}, reference=None
    )


def _another(known: tuple[str, ...], asked: Scalar, rng: np.random.Generator) -> str:
    others = [name for name in known if name != asked]
    return others[int(rng.integers(len(others)))]


def _wrong_colour(asked: str, distance_lab: float, rng: np.random.Generator) -> str:
    """A colour about `distance_lab` away from the asked one, rather more than less, and plainly another."""
    away = {c: colour_distance(colour_lab(c), colour_lab(asked)) for c in COLOURS if c != asked}
    least = max(distance_lab, _VISIBLE_LAB)
    far_enough = sorted((c for c in away if away[c] >= least), key=lambda c: away[c])[:3]
    return far_enough[int(rng.integers(len(far_enough)))] if far_enough else max(away, key=lambda c: away[c])
