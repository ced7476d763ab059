"""What a procedural scene holds, before a pixel is drawn: which things, where, in what colour, over what background.

A plan is free of any image size (places and radii are shares of the side), so one scene exists at every size.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.scene_textures import BackgroundPlan, background_mean, check_textures, plan_background
from pipeline.shapes import COLOURS, SHAPES, colour_distance, colour_lab, rgb_lab
from schemas.record import short_hash

MIN_OBJECTS, MAX_OBJECTS = 2, 6
#: Surface patterns that an object may wear, with the word its label says it by.
PATTERN_WORDS = {"stripes": "striped", "checker": "checkered", "dots": "dotted"}

_MARGIN = 0.03
_GAP = 0.035
_PLACE_TRIES = 40
_SHRINK = 0.9
#: Smallest radius of an object: at the smallest size, 32 px, still 6 px across.
_MIN_RADIUS = 0.095
_MAX_RADIUS_BY_COUNT = {2: 0.23, 3: 0.21, 4: 0.19, 5: 0.17, 6: 0.155}
_PATTERNED_SHARE = 0.3
#: CIE Lab distances that keep an object apart from its background and from the other objects.
_APART_FROM_BACKGROUND = 38.0
_APART_FROM_EACH_OTHER = 30.0


@dataclass(frozen=True)
class ObjectPlan:
    """One object. centre (x, y) and radius as shares of the image's side; angle in radians, clockwise."""

    shape: str
    colour: str
    pattern: str | None
    centre: tuple[float, float]
    radius: float
    angle: float

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
    """The plan of scene number `index`; only its background depends on the pool `textures`.

    Raises: BadInput for an empty pool or an unknown texture.
    """
    check_textures(textures)
    texture = textures[int(scene_rng(seed, index, "texture").integers(len(textures)))]
    background = plan_background(texture, scene_rng(seed, index, "background"))
    rng = scene_rng(seed, index, "objects")
    places = _places(rng)
    looks = _looks(len(places), background_lab(background), rng)
    objects = tuple(
        ObjectPlan(shape, colour, _pattern(rng), centre, radius, _angle(rng))
        for (centre, radius), (shape, colour) in zip(places, looks, strict=True)
    )
    return ScenePlan(seed, index, background, objects)


def background_lab(background: BackgroundPlan) -> tuple[float, float, float]:
    """CIE Lab of a background's mean colour."""
    r, g, b = background_mean(background)
    return rgb_lab((255 * r, 255 * g, 255 * b))


def clear_colours(lab: tuple[float, float, float], at_least: float = _APART_FROM_BACKGROUND) -> list[str]:
    """The colours that stand out from `lab`, or the six that do best where fewer do."""
    far = sorted(COLOURS, key=lambda name: -colour_distance(colour_lab(name), lab))
    clear = sum(colour_distance(colour_lab(name), lab) >= at_least for name in far)
    return far[: max(clear, 6)]


def _places(rng: np.random.Generator) -> list[tuple[tuple[float, float], float]]:
    """(centre, radius) of 2..6 circles that keep their distance; one that finds no place shrinks, then is left out."""
    wanted = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    largest = _MAX_RADIUS_BY_COUNT[wanted]
    places: list[tuple[tuple[float, float], float]] = []
    for _ in range(wanted):
        radius = float(rng.uniform(0.72, 1.0)) * largest
        while (centre := _free_centre(places, radius, rng)) is None and radius > _MIN_RADIUS:
            radius = max(_MIN_RADIUS, radius * _SHRINK)
        if centre is not None:
            places.append((centre, radius))
    return places


def _free_centre(
    places: list[tuple[tuple[float, float], float]], radius: float, rng: np.random.Generator
) -> tuple[float, float] | None:
    inset = radius + _MARGIN
    for x, y in rng.uniform(inset, 1 - inset, (_PLACE_TRIES, 2)).tolist():
        if all(math.dist((x, y), centre) >= radius + other + _GAP for centre, other in places):
            return x, y
    return None


def _looks(count: int, lab: tuple[float, float, float], rng: np.random.Generator) -> list[tuple[str, str]]:
    """(shape, colour) of each object: colours apart from the background and, as far as they reach, from each other."""
    palette = clear_colours(lab)
    order = [palette[i] for i in rng.permutation(len(palette))]
    colours: list[str] = []
    for name in order:
        if all(colour_distance(colour_lab(name), colour_lab(other)) >= _APART_FROM_EACH_OTHER for other in colours):
            colours.append(name)
    shapes = [SHAPES[i] for i in rng.permutation(len(SHAPES))][:count]
    repeats = rng.random(count) < 0.2
    return [
        (shapes[0] if i and repeats[i] and i < len(colours) else shapes[i], colours[i % len(colours)])
        for i in range(count)
    ]


def _pattern(rng: np.random.Generator) -> str | None:
    drawn, which = rng.random(), int(rng.integers(len(PATTERN_WORDS)))
    return tuple(PATTERN_WORDS)[which] if drawn < _PATTERNED_SHARE else None


def _angle(rng: np.random.Generator) -> float:
    """A slight rotation, small enough that a square stays a square and a diamond a diamond."""
    return math.radians(float(rng.uniform(-12, 12)))
