"""Finds or makes a Label Studio project, with its labelling interface, its guidelines and its images."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from annotation.studio.image_urls import Ask, ImagePlace
from annotation.studio.interface import Kind, guidelines, labels_config, ranking_config
from schemas.errors import BadInput

MAX_PROJECTS = 1000


def open_project(ask: Ask, title: str, images: ImagePlace, kind: Kind = "regions") -> int:
    """The number of the project of that title, made where there is none, with the interface of this version.

    Raises: BadInput where there are several, and what `ask` raises.
    """
    found = [project for project in _projects(ask, title) if project.get("title") == title]
    if len(found) > 1:
        raise BadInput(f"project {title!r}", f"is there {len(found)} times", "rename all but one")
    wanted = project_settings(title, images, kind)
    number = int(found[0]["id"] if found else ask("POST", "/api/projects/", wanted)["id"])
    if found and found[0].get("label_config") != wanted["label_config"]:
        ask("PATCH", f"/api/projects/{number}/", wanted)
    images.connect(ask, number)
    return number


def _projects(ask: Ask, title: str) -> list[dict[str, Any]]:
    listed = ask("GET", f"/api/projects/?page_size={MAX_PROJECTS}&title={quote(title)}", None)
    return list(listed["results"])


def project_settings(title: str, images: ImagePlace, kind: Kind = "regions") -> Mapping[str, Any]:
    """What a new project is made with: interface and guidelines, predictions shown, nothing handed in empty."""
    return {
        "title": title,
        "description": "Scores and masks per edit region (regionwise)",
        "label_config": labels_config() if kind == "regions" else ranking_config(),
        "expert_instruction": guidelines(kind, images.picture_url),
        "show_instruction": True,
        "show_skip_button": True,
        "enable_empty_annotation": False,
        "show_collab_predictions": True,
        "sampling": "Sequential sampling",
    }
