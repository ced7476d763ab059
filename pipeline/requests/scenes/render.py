"""Draws a procedural scene: background, drop shadows, shaded objects with exact masks, light and sensor noise."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.editors.shapes import COLOURS, ImageF32, shape_coverage
from pipeline.requests.scenes.plan import PATTERN_INK, ObjectPlan, ScenePlan, plan_scene, scene_rng
from pipeline.requests.scenes.textures import TEXTURES, background_mean, background_pixels, vary_background
from runtime.images import ImageU8
from runtime.masks import MaskBool, mask_box
from schemas.errors import BadInput
from schemas.geometry import Box

MIN_SIZE_PX, MAX_SIZE_PX = 32, 4096

_SHADOW_OPACITY = 0.42
_SHADOW_REACH = 0.16
_BEVEL = 0.30
#: How often a thing lies in a light or shade of its own, and the ends of its gain.
_OWN_LIGHT_SHARE = 0.4
_OWN_LIGHT_GAIN = (0.68, 1.25)
#: How many spots of coloured light may fall anywhere, and how far they take each channel.
_SPOTS = 3
_SPOT_GAIN = 0.18
#: Colours without a hue: another light would make one look like another.
_PLAIN = ("black", "gray", "white")


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene. texture: its surface pattern or None. glow: the colour that it glows in, or None.

    box: tight around the mask, half-open, in px. mask_hw: (size, size) bool, the pixels that it covers by half or more.
    Its shadow and its glow are not part of it.
    """

    label: str
    shape: str
    colour: str
    texture: str | None
    glow: str | None
    box: Box
    mask_hw: MaskBool


@dataclass(frozen=True)
class Scene:
    """A rendered scene. image_hwc_u8: (size, size, 3) RGB. texture: what the background is made of."""

    seed: int
    index: int
    render: int
    size_px: int
    texture: str
    image_hwc_u8: ImageU8
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class _Light:
    """The light of one render. angle: where it comes from; colour: gain a channel; slope: falloff over the image."""

    angle_rad: float
    colour: tuple[float, float, float]
    slope: float
    noise: float
    spots: tuple["_Spot", ...]


@dataclass(frozen=True)
class _Spot:
    """A soft round light or shade. centre (x, y), radius: shares of the image's side; gain: of each channel, inside."""

    centre: tuple[float, float]
    radius: float
    gain: tuple[float, float, float]


def render_scene(seed: int, index: int, size_px: int, render: int = 0, textures: tuple[str, ...] = TEXTURES) -> Scene:
    """Scene number `index` of `seed`: the same arguments give the same bytes, whatever was rendered before.

    render: above 0, the same objects in the same places under another light, texture crop and noise.
    textures: the pool that the background is drawn from; the objects' places do not depend on it, their colours do.
    Raises: BadInput for a size outside 32..4096 px, a negative index or render, or an unknown texture.
    """
    check_scene(index, size_px, render)
    plan = plan_scene(seed, index, textures)
    objects = tuple(_scene_object(thing, size_px) for thing in plan.objects)
    image = _draw(plan, size_px, render, plan.objects)
    return Scene(seed, index, render, size_px, plan.background.texture, image, objects)


def render_without(scene: Scene, leave_out: tuple[int, ...]) -> ImageU8:
    """The same render as `scene` with the objects at these indices (and their shadows) not there."""
    plan = plan_scene(scene.seed, scene.index, (scene.texture,))
    kept = tuple(thing for i, thing in enumerate(plan.objects) if i not in leave_out)
    return _draw(plan, scene.size_px, scene.render, kept)


def check_scene(index: int, size_px: int, render: int) -> None:
    """Raises: BadInput for a size outside 32..4096 px, or a negative index or render."""
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise BadInput("scene", f"size is {size_px} px", f"choose {MIN_SIZE_PX}..{MAX_SIZE_PX} px")
    if index < 0 or render < 0:
        raise BadInput("scene", f"index {index}, render {render}: below 0", "count from 0")


def _scene_object(thing: ObjectPlan, size_px: int) -> SceneObject:
    window = _window(thing, size_px, 0.0)
    mask = np.zeros((size_px, size_px), dtype=np.bool_)
    mask[window[1] : window[3], window[0] : window[2]] = _coverage(thing, size_px, window) >= 0.5
    box = mask_box(mask)
    assert box is not None, "the smallest object covers several pixels at the smallest size"
    mask.setflags(write=False)
    glow = thing.glow.colour if thing.glow else None
    return SceneObject(thing.label, thing.shape, thing.colour, thing.pattern, glow, box, mask)


def _window(thing: ObjectPlan, size_px: int, beyond: float) -> Box:
    """The pixels around an object, `beyond` (a share of its radius) further than it reaches, inside the image."""
    reach = thing.radius * (1 + beyond) * size_px + 1
    x, y = thing.centre[0] * size_px, thing.centre[1] * size_px
    x1, y1 = max(0, math.floor(x - reach)), max(0, math.floor(y - reach))
    return x1, y1, min(size_px, math.ceil(x + reach)), min(size_px, math.ceil(y + reach))


def _coverage(thing: ObjectPlan, size_px: int, window: Box) -> ImageF32:
    centre = (thing.centre[0] * size_px, thing.centre[1] * size_px)
    return shape_coverage(thing.shape, centre, thing.radius * size_px, thing.angle, window)


def _light(plan: ScenePlan, render: int) -> _Light:
    rng = scene_rng(plan.seed, plan.index, "light", render)
    warmth = float(rng.uniform(-0.04, 0.04))
    gain = float(rng.uniform(0.9, 1.08))
    return _Light(
        angle_rad=math.radians(float(rng.uniform(200, 340))),
        colour=(gain * (1 + warmth), gain, gain * (1 - warmth)),
        slope=float(rng.uniform(0.02, 0.12)),
        noise=float(rng.uniform(0.004, 0.014)),
        spots=_spots(plan, render),
    )


def _spots(plan: ScenePlan, render: int) -> tuple[_Spot, ...]:
    """Light and shade on single things, and coloured light anywhere: its name does not say how bright a thing is."""
    rng = scene_rng(plan.seed, plan.index, "spots", render)
    spots = []
    for thing in plan.objects:
        gain = float(np.exp(rng.uniform(*np.log(_OWN_LIGHT_GAIN))))
        if rng.random() < _OWN_LIGHT_SHARE and thing.colour not in _PLAIN:
            spots.append(_Spot(thing.centre, 1.3 * thing.radius, (gain, gain, gain)))
    for x, y, radius, *gains in rng.uniform(0, 1, (int(rng.integers(_SPOTS + 1)), 6)).tolist():
        red, green, blue = (1 + _SPOT_GAIN * (2 * gain - 1) for gain in gains)
        spots.append(_Spot((x, y), 0.08 + 0.22 * radius, (red, green, blue)))
    return tuple(spots)


def _draw(plan: ScenePlan, size_px: int, render: int, things: tuple[ObjectPlan, ...]) -> ImageU8:
    light = _light(plan, render)
    canvas = _background(plan, size_px, render)
    for thing in things:
        _draw_shadow(canvas, thing, size_px, light)
    for thing in things:
        _draw_glow(canvas, thing, size_px)
    for thing in things:
        _draw_object(canvas, thing, size_px, light)
    canvas *= _light_field(size_px, light)
    canvas += _noise(plan, size_px, render) * np.float32(light.noise)
    np.clip(canvas, 0, 1, out=canvas)
    return np.asarray(canvas * np.float32(255) + np.float32(0.5), dtype=np.uint8)


def _background(plan: ScenePlan, size_px: int, render: int) -> ImageF32:
    """The background of one render; every render keeps the mean colour of the first, so that objects stay clear."""
    if render == 0:
        return background_pixels(plan.background, size_px)
    varied = vary_background(plan.background, scene_rng(plan.seed, plan.index, "background", render))
    shift = background_mean(plan.background) - background_mean(varied)
    return np.asarray(np.clip(background_pixels(varied, size_px) + shift, 0, 1), dtype=np.float32)


def _draw_shadow(canvas: ImageF32, thing: ObjectPlan, size_px: int, light: _Light) -> None:
    window = _window(thing, size_px, 3 * _SHADOW_REACH)
    radius_px = thing.radius * size_px
    offset = _SHADOW_REACH * radius_px
    x = thing.centre[0] * size_px - offset * math.cos(light.angle_rad)
    y = thing.centre[1] * size_px - offset * math.sin(light.angle_rad)
    coverage = shape_coverage(thing.shape, (x, y), radius_px, thing.angle, window)
    soft = cv2.GaussianBlur(coverage, (0, 0), max(0.5, 0.09 * radius_px), borderType=cv2.BORDER_CONSTANT)
    patch = canvas[window[1] : window[3], window[0] : window[2]]
    patch *= 1 - np.float32(_SHADOW_OPACITY) * soft[:, :, None]


def _draw_glow(canvas: ImageF32, thing: ObjectPlan, size_px: int) -> None:
    if thing.glow is None:
        return
    window = _window(thing, size_px, thing.glow.reach)
    outside = (_coverage(thing, size_px, window) < 0.5).astype(np.uint8)
    reach_px = max(1.0, thing.glow.reach * thing.radius * size_px)
    left = np.clip(1 - (cv2.distanceTransform(outside, cv2.DIST_L2, 5) - 1) / reach_px, 0, 1)
    colour = np.array(COLOURS[thing.glow.colour], dtype=np.float32) / np.float32(255)
    patch = canvas[window[1] : window[3], window[0] : window[2]]
    patch += (colour - patch) * (np.float32(thing.glow.opacity) * left)[:, :, None]


def _draw_object(canvas: ImageF32, thing: ObjectPlan, size_px: int, light: _Light) -> None:
    window = _window(thing, size_px, 0.0)
    coverage = _coverage(thing, size_px, window)
    colour = np.array(COLOURS[thing.colour], dtype=np.float32) / np.float32(255)
    surface = np.broadcast_to(colour, (*coverage.shape, 3))
    if thing.pattern:
        surface = surface * (1 - np.float32(1 - PATTERN_INK) * _pattern(thing, size_px, window)[:, :, None])
    shaded = surface * _shading(coverage, thing.radius * size_px, light)[:, :, None]
    patch = canvas[window[1] : window[3], window[0] : window[2]]
    patch += (shaded - patch) * coverage[:, :, None]


def _pattern(thing: ObjectPlan, size_px: int, window: Box) -> ImageF32:
    """Where the second colour shows, 0..1, in the object's own turned frame."""
    xs = (np.arange(window[0], window[2], dtype=np.float32) + 0.5 - thing.centre[0] * size_px)[None, :]
    ys = (np.arange(window[1], window[3], dtype=np.float32) + 0.5 - thing.centre[1] * size_px)[:, None]
    radius_px = thing.radius * size_px
    turn = thing.angle + (0.6 if thing.pattern == "stripes" else 0.0)
    u = (xs * math.cos(turn) + ys * math.sin(turn)) / radius_px
    v = (ys * math.cos(turn) - xs * math.sin(turn)) / radius_px
    if thing.pattern == "stripes":
        wave, width = np.sin(u * np.float32(9.0)), 9.0
    elif thing.pattern == "checker":
        wave, width = np.sin(u * np.float32(6.5)) * np.sin(v * np.float32(6.5)), 6.5
    else:
        wave, width = np.cos(u * np.float32(9.0)) + np.cos(v * np.float32(9.0)) - 0.7, 9.0
    softness = max(width / radius_px, 0.02)
    return np.asarray(np.clip(0.5 + wave / np.float32(softness), 0, 1), dtype=np.float32)


def _shading(coverage: ImageF32, radius_px: float, light: _Light) -> ImageF32:
    """A soft bevel lit from the light's side: gain around 1 for each pixel of the patch."""
    height = cv2.GaussianBlur(coverage, (0, 0), max(0.6, 0.16 * radius_px), borderType=cv2.BORDER_CONSTANT)
    slope_y, slope_x = np.gradient(height)
    facing = -(slope_x * math.cos(light.angle_rad) + slope_y * math.sin(light.angle_rad)) * (0.4 * radius_px)
    return np.asarray(1 + np.clip(_BEVEL * facing, -_BEVEL, _BEVEL), dtype=np.float32)


def _light_field(size_px: int, light: _Light) -> ImageF32:
    ramp = np.linspace(-1, 1, size_px, dtype=np.float32)
    across = ramp[None, :] * math.cos(light.angle_rad) + ramp[:, None] * math.sin(light.angle_rad)
    gain = 1 + np.float32(light.slope) * across
    field = np.asarray(gain[:, :, None] * np.array(light.colour, dtype=np.float32), dtype=np.float32)
    places = (np.arange(size_px, dtype=np.float32) + np.float32(0.5)) / np.float32(size_px)
    for spot in light.spots:
        far = ((places[None, :] - spot.centre[0]) ** 2 + (places[:, None] - spot.centre[1]) ** 2) / spot.radius**2
        field *= 1 + np.exp(-(far**2))[:, :, None] * (np.array(spot.gain, dtype=np.float32) - 1)
    return field


@lru_cache(maxsize=4)
def _noise_at(seed: int, index: int, size_px: int, render: int) -> ImageF32:
    noise = scene_rng(seed, index, "noise", render).standard_normal((size_px, size_px, 3), dtype=np.float32)
    noise.setflags(write=False)
    return noise


def _noise(plan: ScenePlan, size_px: int, render: int) -> ImageF32:
    return _noise_at(plan.seed, plan.index, size_px, render)
