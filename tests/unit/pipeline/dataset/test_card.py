"""The dataset card: a header that hubs read, tables that are true, code that runs, and names that stay text."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.dataset.card import card_text, escape_markdown, size_category
from pipeline.dataset.shards import read_manifest
from schemas.dataset_row import DatasetRegion, DatasetRow
from schemas.manifest import Manifest

HOSTILE = "a|b <script>x</script>\n# h `c` [l](http://x) *s* _u_ ---"


@pytest.fixture
def manifest(built_run: Path) -> Manifest:
    return read_manifest(built_run / "dataset")


def _header(text: str) -> dict[str, object]:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_is_what_hubs_read(manifest: Manifest) -> None:
    header = _header(card_text(manifest))
    assert header["license"] == "other"
    assert header["task_categories"] == ["image-to-image"]
    assert header["size_categories"] == ["n<1K"]
    assert "synthetic" in header["tags"]
    files = header["configs"][0]["data_files"]
    assert [file["split"] for file in files] == [split for split, rows in manifest.splits.items() if rows]
    assert all(file["path"] == f"{file['split']}-*.tar" for file in files)
    types = {feature["name"]: feature["dtype"] for feature in header["dataset_info"]["features"]}
    assert types.pop("__key__") == types.pop("__url__") == "string"
    assert types == {"source.png": "image", "edited.png": "image", "regions.png": "image", "json": "json"}


def test_a_manifest_that_names_no_members_declares_no_types(manifest: Manifest) -> None:
    shards = tuple(shard.model_copy(update={"members": ()}) for shard in manifest.shards)
    assert "dataset_info" not in _header(card_text(manifest.model_copy(update={"shards": shards})))


def test_no_synthetic_tag_where_nothing_is(manifest: Manifest) -> None:
    text = card_text(manifest.model_copy(update={"synthetic": "none"}))
    assert "synthetic" not in _header(text)["tags"]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (260_000, "100K<n<1M"), (10_000_000, "n>10M")],
)
def test_size_categories(rows: int, category: str) -> None:
    assert size_category(rows) == category


def test_every_field_of_a_row_is_explained(manifest: Manifest) -> None:
    text = card_text(manifest)
    for name in (*DatasetRow.model_fields, *DatasetRegion.model_fields):
        found = re.search(rf"^\| `{name}` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
        assert found, name
        assert found[1].strip()
        assert found[2].strip(), f"{name} has no meaning"


def test_counts_come_from_the_manifest(manifest: Manifest) -> None:
    text = card_text(manifest)
    for stage in manifest.stages:
        assert f"| {stage.stage} | {stage.rows_in:,} | {stage.kept:,} | {sum(stage.rejected.values()):,} |" in text
        assert all(f"`{reason}` {count:,}" in text for reason, count in stage.rejected.items())
    assert manifest.build.config_digest in text
    assert "no person and no model looked at these images" in text


def test_names_from_users_stay_text(manifest: Manifest) -> None:
    build = manifest.build.model_copy(update={"config": {"requests": ["```\n<script>"]}, "inputs": {HOSTILE: "0" * 64}})
    hostile = {"dataset": HOSTILE, "edit_types": {HOSTILE: 3}, "raters": {HOSTILE: 3}, "build": build}
    text = card_text(manifest.model_copy(update=hostile))
    assert _header(text)["pretty_name"] == HOSTILE
    body = text.split("---\n", 2)[2]
    assert "<script" not in re.sub(r"```json\n.*?```", "", body, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)\[l\]", body)
    assert body.count("```") == 6
    assert f"| {escape_markdown(HOSTILE)} | 3 |" in body


def test_escaped_text_is_one_line_without_live_marks() -> None:
    escaped = escape_markdown(HOSTILE)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert not re.search(r"(?<!\\)[|`*_\[\]#]", escaped)
