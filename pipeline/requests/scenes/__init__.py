"""Procedural scenes: objects with known masks over photo textures or plain grounds, any number, any size."""

from pipeline.requests.scenes.plain import PLAIN
from pipeline.requests.scenes.render import MAX_SIZE_PX, MIN_SIZE_PX, Scene, SceneObject, render_scene, render_without
from pipeline.requests.scenes.requests import (
    OPERATIONS,
    scene_at,
    scene_edit_request,
    scene_name,
    scene_request,
    scene_requests,
)
from pipeline.requests.scenes.textures import TEXTURES

__all__ = [
    "MAX_SIZE_PX",
    "MIN_SIZE_PX",
    "OPERATIONS",
    "PLAIN",
    "TEXTURES",
    "Scene",
    "SceneObject",
    "render_scene",
    "render_without",
    "scene_at",
    "scene_edit_request",
    "scene_name",
    "scene_request",
    "scene_requests",
]
