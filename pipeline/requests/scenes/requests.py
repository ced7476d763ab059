"""Procedural scenes as a request source: any number, any size, each with known masks and an edit request of its own.

Scene `index` of a seed does not depend on the scenes before it, so any part can be made alone. What is drawn is in
`pipeline.requests.scenes.render`; here is what is asked for.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pipeline.editors.shapes import COLOURS, SHAPES, colour_distance, colour_lab, rgb_lab
from pipeline.requests.instructions import instruction_for
from pipeline.requests.scenes.plain import PLAIN, plain_request, plain_scene
from pipeline.requests.scenes.plan import clear_colours, scene_background, scene_rng
from pipeline.requests.scenes.render import Scene, SceneObject, render_scene
from pipeline.requests.scenes.textures import TEXTURES
from runtime.images import ImageU8, pixels_sha256
from runtime.masks import mask_to_rle
from schemas.geometry import Box
from schemas.record import Scalar
from schemas.request import EditRequest, Operation, RequestLine, Source, Target, request_id

#: What a scene's request may ask for: every operation of a `Target` but `other`.
OPERATIONS: tuple[Operation, ...] = (
    "recolour", "remove", "replace", "insert", "texture", "blur", "relight", "move", "resize", "text",
)  # fmt: skip
#: How often an operation is asked for where it is not once: what hangs on how a thing was before shall not be rare.
_OFTEN = {"relight": 4.0}
#: What would leave a glow behind with nothing in it that glows.
_LEAVES_GLOW = ("remove", "replace", "move", "resize")
PATTERNS = ("stripes", "checker", "dots", "waves", "bricks", "noise")
WORDS = ("HI", "OK", "YES", "NEW", "GO", "42", "A1", "TOP", "SALE", "OPEN")

_TARGET_SHARES = (0.4, 0.4, 0.2)
_VISIBLE_CHANGE = 40.0
#: Gains of light that are asked for, and the CIE Lab distance that brighter light must make on a thing's colour.
_DARKER, _BRIGHTER, _VISIBLE_LIGHT = (0.42, 0.62), (1.75, 2.2), 16.0
_TRIES = 160


class _Wish:
    """The state of drawing one request: what is free, what is taken, and the stream of choices."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = scene_rng(scene.seed, scene.index, "request")
        self.background = scene_background(scene.seed, scene.index, scene.texture)
        self.taken: list[Box] = [thing.box for thing in scene.objects]
        self.looks = {(thing.shape, thing.colour) for thing in scene.objects}
        self.free = [int(i) for i in self.rng.permutation(len(scene.objects))]

    def pick(self, options: list[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def clear_colours(self, box: Box) -> list[str]:
        """The colours that stand out from the background of `box`."""
        size = self.scene.size_px
        centre = ((box[0] + box[2]) / (2 * size), (box[1] + box[3]) / (2 * size))
        return clear_colours(self.background, centre, max(box[2] - box[0], box[3] - box[1]) / (2 * size))

    def colour_apart(self, thing: SceneObject) -> str:
        """A colour that is plainly another one than that of `thing` and stands out from the background behind it."""
        lab = colour_lab(thing.colour)
        clear = [c for c in self.clear_colours(thing.box) if colour_distance(colour_lab(c), lab) >= _VISIBLE_CHANGE]
        return self.pick(clear or [max(COLOURS, key=lambda c: colour_distance(colour_lab(c), lab))])

    def free_box(self, width_px: int, height_px: int) -> Box | None:
        """A box of this size on free background, or None."""
        size, gap = self.scene.size_px, max(1, self.scene.size_px // 40)
        if width_px + 2 * gap >= size or height_px + 2 * gap >= size:
            return None
        xs = self.rng.integers(gap, size - width_px - gap + 1, _TRIES)
        ys = self.rng.integers(gap, size - height_px - gap + 1, _TRIES)
        taken = np.array(self.taken)
        free = (
            (xs[:, None] + width_px + gap <= taken[:, 0])
            | (taken[:, 2] + gap <= xs[:, None])
            | (ys[:, None] + height_px + gap <= taken[:, 1])
            | (taken[:, 3] + gap <= ys[:, None])
        ).all(axis=1)
        if not free.any():
            return None
        first = int(np.argmax(free))
        x, y = int(xs[first]), int(ys[first])
        return x, y, x + width_px, y + height_px

    def box_is_free(self, box: Box, own: Box) -> bool:
        """Whether `box` lies inside the image and meets nothing but `own`."""
        size = self.scene.size_px
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size and box[3] <= size
        return inside and all(other == own or not _meet(box, other) for other in self.taken)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def scene_name(scene: Scene) -> str:
    """What a scene is called as a source and as a request: `scene-7-00012-0` (seed, index, render)."""
    return f"scene-{scene.seed}-{scene.index:05d}-{scene.render}"


def scene_request(scene: Scene, *, targets: int | None = None) -> RequestLine:
    """The edit request of a scene, drawn from its seed and index: 1..3 targets (or `targets` of them).

    Every target that is there has its exact mask; something to be added has the free box that it shall fill. Boxes and
    masks in pixels of the scene. Fewer targets come out where the scene has no more objects and no free place.
    Renders of one scene get the same targets and are one source group. Raises: ValueError for `targets` below 1.
    """
    wish = _Wish(scene)
    count = targets if targets is not None else 1 + int(wish.rng.choice(len(_TARGET_SHARES), p=_TARGET_SHARES))
    drawn: list[Target] = []
    while len(drawn) < count and (target := _next_target(wish)) is not None:
        drawn.append(target)
    name = scene_name(scene)
    instruction = instruction_for(drawn, (scene.size_px, scene.size_px))
    group = name.rpartition("-")[0]
    return RequestLine(id=name, sources=(name,), instruction=instruction, targets=tuple(drawn), source_group=group)


def scene_at(
    seed: int, index: int, size_px: int, render: int = 0, textures: tuple[str, ...] = TEXTURES
) -> tuple[RequestLine, ImageU8]:
    """Request and source image (HWC uint8 RGB) of scene number `index`; of a plain scene for the pool `("plain",)`.

    Raises: as `render_scene`.
    """
    if textures == (PLAIN,):
        scene = plain_scene(seed, index, size_px, render)
        return plain_request(scene, scene_name(scene)), scene.image_hwc_u8
    scene = render_scene(seed, index, size_px, render, textures)
    return scene_request(scene), scene.image_hwc_u8


def scene_edit_request(line: RequestLine, image: ImageU8) -> EditRequest:
    """A scene's request checked, as a build would hold it, of the source image as it is."""
    digest = pixels_sha256(image)
    height, width = image.shape[:2]
    source = Source(name=line.id, origin_sha256=digest, pixels_sha256=digest, width_px=width, height_px=height)
    return EditRequest(
        id=request_id((digest,), line.instruction, (), line.targets),
        name=line.id,
        kind="single",
        sources=(source,),
        instruction=line.instruction,
        targets=line.targets,
        edit_type="scene",
        synthetic=True,
    )


def scene_requests(
    seed: int, count: int, size_px: int, textures: tuple[str, ...] = TEXTURES, start: int = 0
) -> Iterator[tuple[RequestLine, ImageU8]]:
    """Scenes `start` .. `start + count` of a seed, one after another. Raises: as `render_scene`."""
    return (scene_at(seed, index, size_px, textures=textures) for index in range(start, start + count))


def _next_target(wish: _Wish) -> Target | None:
    """One more target, its operation drawn by `_OFTEN` among those that this scene still allows."""
    weights = np.array([_OFTEN.get(operation, 1.0) for operation in OPERATIONS])
    for drawn in wish.rng.choice(len(OPERATIONS), len(OPERATIONS), replace=False, p=weights / weights.sum()):
        operation = OPERATIONS[int(drawn)]
        target = _insert(wish) if operation == "insert" else _change(wish, operation)
        if target is not None:
            return target
    return None


def _change(wish: _Wish, operation: Operation) -> Target | None:
    for place, index in enumerate(wish.free):
        thing = wish.scene.objects[index]
        if thing.glow and operation in _LEAVES_GLOW:
            continue
        made = _MAKERS[operation](wish, thing)
        if made is not None:
            del wish.free[place]
            parameters, destination = made
            return Target(
                label=thing.label,
                role="remove" if operation == "remove" else "change",
                operation=operation,
                box=thing.box,
                destination=destination,
                mask=mask_to_rle(thing.mask_hw),
                parameters=parameters,
            )
    return None


def _insert(wish: _Wish) -> Target | None:
    size = wish.scene.size_px
    for share in (0.26, 0.22, 0.18):
        side = max(6, round(size * share))
        box = wish.free_box(side, side)
        if box is not None:
            break
    else:
        return None
    palette = wish.clear_colours(box)
    looks = [(s, c) for s in SHAPES for c in palette if (s, c) not in wish.looks]
    shape, colour = looks[int(wish.rng.integers(len(looks)))]
    wish.looks.add((shape, colour))
    wish.taken.append(box)
    parameters: dict[str, Scalar] = {"shape": shape, "color": colour}
    return Target(label=f"{colour} {shape}", role="add", operation="insert", box=box, parameters=parameters)


_Made = tuple[dict[str, Scalar], Box | None] | None


def _recolour(wish: _Wish, thing: SceneObject) -> _Made:
    colour = wish.colour_apart(thing)
    apart = thing.glow and colour_distance(colour_lab(thing.glow), colour_lab(thing.colour)) >= _VISIBLE_CHANGE
    if thing.glow and apart and wish.rng.random() < 0.5:
        colour = thing.glow
    if (thing.shape, colour) in wish.looks:
        return None
    wish.looks.add((thing.shape, colour))
    return {"color": colour}, None


def _remove(wish: _Wish, thing: SceneObject) -> _Made:
    return {}, None


def _replace(wish: _Wish, thing: SceneObject) -> _Made:
    shape, colour = wish.pick([s for s in SHAPES if s != thing.shape]), wish.colour_apart(thing)
    if (shape, colour) in wish.looks:
        return None
    wish.looks.add((shape, colour))
    return {"shape": shape, "color": colour}, None


def _texture(wish: _Wish, thing: SceneObject) -> _Made:
    return {"texture": wish.pick([p for p in PATTERNS if p != thing.texture])}, None


def _blur(wish: _Wish, thing: SceneObject) -> _Made:
    """Only a thing with a pattern changes enough to be seen when it is blurred."""
    return ({"sigma_px": round(float(wish.rng.uniform(5.0, 9.0)), 1)}, None) if thing.texture else None


def _relight(wish: _Wish, thing: SceneObject) -> _Made:
    """Darker or brighter, so that most things do not say which; brighter only where there is room, black not at all."""
    if thing.colour == "black":
        return None
    lit = tuple(min(255.0, _BRIGHTER[0] * channel) for channel in COLOURS[thing.colour])
    has_room = colour_distance(rgb_lab((lit[0], lit[1], lit[2])), colour_lab(thing.colour)) >= _VISIBLE_LIGHT
    gains = _BRIGHTER if has_room and wish.rng.random() < 0.6 else _DARKER
    return {"gain": round(float(wish.rng.uniform(*gains)), 2)}, None


def _move(wish: _Wish, thing: SceneObject) -> _Made:
    box = wish.free_box(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1])
    if box is None:
        return None
    wish.taken.append(box)
    return {}, box


def _resize(wish: _Wish, thing: SceneObject) -> _Made:
    grown = _scaled(thing.box, float(wish.rng.uniform(1.4, 1.65)))
    if wish.rng.random() < 0.6 and wish.box_is_free(grown, thing.box):
        wish.taken.append(grown)
        return {}, grown
    return {}, _scaled(thing.box, float(wish.rng.uniform(0.5, 0.68)))


def _scaled(box: Box, factor: float) -> Box:
    """`box` about its centre, `factor` times as wide and high, rounded to whole pixels (may leave the image)."""
    width, height = (max(2, round((box[k + 2] - box[k]) * factor)) for k in (0, 1))
    x1, y1 = (box[0] + box[2] - width) // 2, (box[1] + box[3] - height) // 2
    return x1, y1, x1 + width, y1 + height


def _text(wish: _Wish, thing: SceneObject) -> _Made:
    """Lettering needs a body to stand on, in black or white, whichever is further from the thing's own colour."""
    if thing.shape not in ("disc", "square", "heart"):
        return None
    colour = "white" if colour_lab(thing.colour)[0] < 60 else "black"
    return {"text": wish.pick(list(WORDS)), "color": colour}, None


_MAKERS: dict[Operation, Callable[[_Wish, SceneObject], _Made]] = {
    "recolour": _recolour,
    "remove": _remove,
    "replace": _replace,
    "texture": _texture,
    "blur": _blur,
    "relight": _relight,
    "move": _move,
    "resize": _resize,
    "text": _text,
}
