"""Plain scenes: two to four flat things, each in a colour of its own, on a flat ground; no light, shadow or noise.

What a tiny editing model can learn in an hour. A thing is large enough to cover several latent positions of 16 px in a
picture of 128 px, and what is asked for is to recolour or to remove one to three of them. They are the scenes of the
texture pool `("plain",)`; the rich scenes are in `pipeline.requests.scenes.plan` and `pipeline.requests.scenes.render`.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.editors.shapes import COLOURS, ImageF32, shape_coverage
from pipeline.requests.instructions import instruction_for
from pipeline.requests.scenes.plan import Place, scene_rng
from pipeline.requests.scenes.render import Scene, SceneObject, check_scene
from runtime.images import ImageU8
from runtime.masks import mask_box, mask_to_rle
from schemas.record import Scalar
from schemas.request import RequestLine, Target

#: The name of the pool of no texture at all.
PLAIN = "plain"
PLAIN_COLOURS = ("red", "yellow", "green", "blue", "purple", "black")
PLAIN_SHAPES = ("disc", "square", "triangle", "heart")
#: What a plain scene lies on: name -> sRGB, 0..255.
GROUNDS = {"white": (240, 240, 236), "sand": (226, 208, 176), "sky": (184, 212, 236), "gray": (168, 170, 174)}

_COUNTS = (2, 3, 4)
_RADIUS = (0.17, 0.205)
_MARGIN, _GAP = 0.02, 0.03
_PLACE_TRIES = 400
_TARGET_SHARES = (0.4, 0.35, 0.25)
_RECOLOUR_SHARE = 0.6


@dataclass(frozen=True)
class _Thing:
    """One thing: a shape in a colour at a place (centre (x, y) and radius as shares of the image's side)."""

    shape: str
    colour: str
    place: Place


def plain_scene(seed: int, index: int, size_px: int, render: int = 0) -> Scene:
    """Plain scene number `index` of `seed`; render: above 0, the same things in the same places on another ground.

    Raises: BadInput as `pipeline.requests.scenes.render_scene`.
    """
    check_scene(index, size_px, render)
    grounds = list(GROUNDS.values())
    order = scene_rng(seed, index, PLAIN, "ground").permutation(len(grounds))
    canvas = np.empty((size_px, size_px, 3), dtype=np.float32)
    canvas[:] = grounds[int(order[render % len(grounds)])]
    objects = tuple(_draw(canvas, thing) for thing in _things(scene_rng(seed, index, PLAIN, "things")))
    image: ImageU8 = np.asarray(canvas + np.float32(0.5), dtype=np.uint8)
    return Scene(seed, index, render, size_px, PLAIN, image, objects)


def plain_targets(scene: Scene) -> list[Target]:
    """One to three things of a plain scene, each to be given a colour that no other has, or to be removed."""
    rng = scene_rng(scene.seed, scene.index, PLAIN, "request")
    number = 1 + int(rng.choice(len(_TARGET_SHARES), p=_TARGET_SHARES))
    unused = [name for name in PLAIN_COLOURS if name not in {thing.colour for thing in scene.objects}]
    colours = [unused[i] for i in rng.permutation(len(unused))]
    chosen = rng.permutation(len(scene.objects))[:number].tolist()
    return [
        _target(scene.objects[i], colours.pop() if colours and rng.random() < _RECOLOUR_SHARE else None) for i in chosen
    ]


def plain_request(scene: Scene, name: str) -> RequestLine:
    """The edit request of a plain scene, drawn from its seed and index."""
    targets = plain_targets(scene)
    instruction = instruction_for(targets, (scene.size_px, scene.size_px))
    group = name.rpartition("-")[0]
    return RequestLine(id=name, sources=(name,), instruction=instruction, targets=tuple(targets), source_group=group)


def _target(thing: SceneObject, colour: str | None) -> Target:
    parameters: dict[str, Scalar] = {"color": colour} if colour else {}
    return Target(
        label=thing.label,
        role="change" if colour else "remove",
        operation="recolour" if colour else "remove",
        box=thing.box,
        mask=mask_to_rle(thing.mask_hw),
        parameters=parameters,
    )


def _things(rng: np.random.Generator) -> list[_Thing]:
    """Two to four things, no two of one colour; one that finds no place is left out."""
    wanted = int(rng.choice(_COUNTS))
    colours = [PLAIN_COLOURS[i] for i in rng.permutation(len(PLAIN_COLOURS))]
    places: list[Place] = []
    for x, y, size in rng.uniform(0, 1, (_PLACE_TRIES, 3)).tolist():
        radius = _RADIUS[0] + size * (_RADIUS[1] - _RADIUS[0])
        inset = radius + _MARGIN
        centre = (inset + x * (1 - 2 * inset), inset + y * (1 - 2 * inset))
        if len(places) < wanted and all(math.dist(centre, at) >= radius + other + _GAP for at, other in places):
            places.append((centre, radius))
    shapes = [PLAIN_SHAPES[i] for i in rng.integers(len(PLAIN_SHAPES), size=len(places))]
    return [_Thing(shape, colour, place) for shape, colour, place in zip(shapes, colours, places, strict=False)]


def _draw(canvas: ImageF32, thing: _Thing) -> SceneObject:
    """Paints a thing into `canvas` (size, size, 3; 0..255) and says where it is."""
    size = canvas.shape[0]
    (x, y), radius = thing.place
    centre = (x * size, y * size)
    coverage = shape_coverage(thing.shape, centre, radius * size, 0.0, (0, 0, size, size))
    colour = np.array(COLOURS[thing.colour], dtype=np.float32)
    canvas += (colour - canvas) * coverage[:, :, None]
    mask = coverage >= 0.5
    box = mask_box(mask)
    assert box is not None, "a thing of a sixth of the side covers pixels at every size"
    mask.setflags(write=False)
    return SceneObject(f"{thing.colour} {thing.shape}", thing.shape, thing.colour, None, None, box, mask)
