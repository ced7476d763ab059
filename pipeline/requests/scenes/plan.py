"""What a procedural scene holds, before a pixel is drawn: which things, where, in what colour, over what background.

A plan is free of any image size (places and radii are shares of the side), so one scene exists at every size.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab, rgb_lab
from pipeline.requests.scenes.textures import (
    BackgroundPlan,
    background_mean,
    background_mean_at,
    check_textures,
    plan_background,
)
from schemas.record import short_hash

MIN_OBJECTS, MAX_OBJECTS = 2, 6
#: Surface patterns that an object may wear, with the word its label says it by.
PATTERN_WORDS = {"stripes": "striped", "checker": "checkered", "dots": "dotted"}

#: A pattern's second colour: its first times this.
PATTERN_INK = 0.58

_MARGIN = 0.03
_GAP = 0.035
_PLACE_TRIES = 40
_SHRINK = 0.9
#: Smallest radius of an object: at the smallest size, 32 px, still 6 px across.
_MIN_RADIUS = 0.095
_MAX_RADIUS_BY_COUNT = {2: 0.23, 3: 0.21, 4: 0.19, 5: 0.17, 6: 0.155}
_PATTERNED_SHARE = 0.5
#: Colours that a pattern would turn into one another.
_PLAIN_COLOURS = ("black", "gray", "white")
#: How many objects take the first one's shape, so that a label needs its colour.
_TWIN_SHARE = 0.2
#: How many things glow, how many of those in another colour than their own, and how: reach in radii, and opacity.
_GLOWING_SHARE = 0.5
_OTHER_GLOW_SHARE = 0.5
_GLOW_REACH = (0.12, 0.5)
_GLOW_OPACITY = (0.3, 0.6)
#: CIE Lab distances that keep an object apart from its background and from the other objects.
_APART_FROM_BACKGROUND = 42.0
_APART_FROM_EACH_OTHER = 30.0


#: Centre (x, y) and radius of a circle, as shares of the image's side.
Place = tuple[tuple[float, float], float]
Lab = tuple[float, float, float]


@dataclass(frozen=True)
class Glow:
    """Light of one colour around a thing, fading outwards. reach: in the thing's radii; opacity: at its border."""

    colour: str
    reach: float
    opacity: float


@dataclass(frozen=True)
class ObjectPlan:
    """One object. centre (x, y) and radius as shares of the image's side; angle in radians, clockwise."""

    shape: str
    colour: str
    pattern: str | None
    centre: tuple[float, float]
    radius: float
    angle: float
    glow: Glow | None

    @property
    def label(self) -> str:
        """How an instruction names it: `red star`, `striped red star`."""
        words = f"{self.colour} {self.shape}"
        return f"{PATTERN_WORDS[self.pattern]} {words}" if self.pattern else words


@dataclass(frozen=True)
class ScenePlan:
    """A scene without pixels. No two objects share both shape and colour, and none touch."""

    seed: int
    index: int
    background: BackgroundPlan
    objects: tuple[ObjectPlan, ...]


def scene_rng(seed: int, index: int, *stream: str | int) -> np.random.Generator:
    """The generator of one stream of random choices about one scene; streams do not influence one another."""
    return np.random.default_rng(int(short_hash("scene", seed, index, *stream), 16))


def plan_scene(seed: int, index: int, textures: tuple[str, ...]) -> ScenePlan:
    """The plan of scene number `index`. The pool `textures` decides the background, and so which colours are clear.

    Raises: BadInput for an empty pool or an unknown texture.
    """
    check_textures(textures)
    texture = textures[int(scene_rng(seed, index, "texture").integers(len(textures)))]
    background = scene_background(seed, index, texture)
    places = _places(scene_rng(seed, index, "places"))
    looks = _looks(places, background, scene_rng(seed, index, "looks"))
    rng, glows = scene_rng(seed, index, "surfaces"), scene_rng(seed, index, "glows")
    objects = tuple(
        ObjectPlan(
            shape=shape,
            colour=colour,
            pattern=_pattern(colour, background, (centre, radius), rng),
            centre=centre,
            radius=radius,
            angle=_angle(rng),
            glow=_glow(colour, clear_colours(background, centre, radius), glows),
        )
        for (centre, radius), (shape, colour) in zip(places, looks, strict=True)
    )
    return ScenePlan(seed, index, background, objects)


def scene_background(seed: int, index: int, texture: str) -> BackgroundPlan:
    """The background of scene number `index` where its texture is this one."""
    return plan_background(texture, scene_rng(seed, index, "background"))


def clear_colours(background: BackgroundPlan, centre: tuple[float, float], radius: float) -> list[str]:
    """The colours that stand out at a place of a background and, as other renders shift it, from its mean colour.

    Where fewer than four do, the four that do best. centre (x, y) and radius as shares of the side.
    """
    behind = _behind(background, (centre, radius))
    apart = {name: min(colour_distance(colour_lab(name), lab) for lab in behind) for name in COLOURS}
    best = sorted(COLOURS, key=lambda name: -apart[name])
    return best[: max(4, sum(value >= _APART_FROM_BACKGROUND for value in apart.values()))]


def _behind(background: BackgroundPlan, place: Place) -> tuple[Lab, Lab]:
    """What an object must stand out from: the background at its place, and the background's mean."""
    centre, radius = place
    return _lab(background_mean_at(background, centre, 1.3 * radius)), _lab(background_mean(background))


def _lab(rgb_01: NDArray[np.float32]) -> Lab:
    r, g, b = (255 * rgb_01).tolist()
    return rgb_lab((r, g, b))


def _places(rng: np.random.Generator) -> list[Place]:
    """(centre, radius) of 2..6 circles that keep their distance; one that finds no place shrinks, then is left out."""
    wanted = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    largest = _MAX_RADIUS_BY_COUNT[wanted]
    places: list[Place] = []
    for _ in range(wanted):
        radius = float(rng.uniform(0.72, 1.0)) * largest
        while (centre := _free_centre(places, radius, rng)) is None and radius > _MIN_RADIUS:
            radius = max(_MIN_RADIUS, radius * _SHRINK)
        if centre is not None:
            places.append((centre, radius))
    return places


def _free_centre(places: list[Place], radius: float, rng: np.random.Generator) -> tuple[float, float] | None:
    inset = radius + _MARGIN
    for x, y in rng.uniform(inset, 1 - inset, (_PLACE_TRIES, 2)).tolist():
        if all(math.dist((x, y), centre) >= radius + other + _GAP for centre, other in places):
            return x, y
    return None


def _looks(places: list[Place], background: BackgroundPlan, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(shape, colour) of each object: no pair twice, colours apart from what lies behind and from each other."""
    shapes = [SHAPES[i] for i in rng.permutation(len(SHAPES))]
    looks: list[tuple[str, str]] = []
    for number, (centre, radius) in enumerate(places):
        palette = clear_colours(background, centre, radius)
        order = [palette[i] for i in rng.permutation(len(palette))]
        colour = max(order, key=lambda name: min(_APART_FROM_EACH_OTHER, _nearest(name, looks)))
        twin = number > 0 and rng.random() < _TWIN_SHARE and (shapes[0], colour) not in looks
        looks.append((shapes[0] if twin else shapes[number], colour))
    return looks


def _nearest(colour: str, looks: list[tuple[str, str]]) -> float:
    return min((colour_distance(colour_lab(colour), colour_lab(other)) for _, other in looks), default=math.inf)


def _pattern(colour: str, background: BackgroundPlan, place: Place, rng: np.random.Generator) -> str | None:
    """A surface pattern for some; none where its darker parts would sink into the background."""
    drawn, which = rng.random(), int(rng.integers(len(PATTERN_WORDS)))
    if drawn >= _PATTERNED_SHARE or colour in _PLAIN_COLOURS:
        return None
    r, g, b = (PATTERN_INK * channel for channel in COLOURS[colour])
    ink = rgb_lab((r, g, b))
    sinks = any(colour_distance(ink, lab) < _APART_FROM_EACH_OTHER for lab in _behind(background, place))
    return None if sinks else tuple(PATTERN_WORDS)[which]


def _glow(colour: str, palette: list[str], rng: np.random.Generator) -> Glow | None:
    """Some things glow, in their own colour or another: light around a thing need not come from an edit."""
    glows, other = rng.random() < _GLOWING_SHARE, rng.random() < _OTHER_GLOW_SHARE
    others = [name for name in palette if name != colour]
    shown = others[int(rng.integers(len(others)))] if other else colour
    reach, opacity = float(rng.uniform(*_GLOW_REACH)), float(rng.uniform(*_GLOW_OPACITY))
    return Glow(shown, reach, opacity) if glows else None


def _angle(rng: np.random.Generator) -> float:
    """A slight rotation, small enough that a square stays a square and a diamond a diamond."""
    return math.radians(float(rng.uniform(-12, 12)))
