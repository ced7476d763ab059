"""The dataset card: `README.md` with the YAML header that dataset hubs read, made from the manifest alone.

Names in a manifest come from users; every one of them is escaped before it stands in Markdown.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.dataset.scores import CONSENSUS
from pipeline.editors.plugins import EMBEDDED, is_embedded
from runtime.files import write_whole
from runtime.images import EXTENSIONS
from schemas.dataset_row import DatasetRegion, DatasetRow
from schemas.manifest import Manifest, Shard, StageCount
from schemas.record import Record
from schemas.request import Split
from schemas.score import SCORE_MAX

#: Upper bounds of the size categories that hubs know.
SIZE_STEPS = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"), (10_000_000, "10M"))
ORACLE_PREFIX = "oracle:"


def write_card(dataset: Path, manifest: Manifest) -> None:
    """Writes `README.md` of a dataset folder, whole or not at all."""
    write_whole(dataset / "README.md", card_text(manifest))


def card_text(manifest: Manifest) -> str:
    """The card: YAML header, then what a row is, how much there is of what, how to read it, and where it came from."""
    sections = (
        _header(manifest),
        _summary(manifest),
        _reading(manifest),
        _fields(),
        _counts(manifest),
        _rejects(manifest.stages),
        _scores(manifest),
        _lineage(manifest),
        _limits(manifest),
    )
    return "\n\n".join(sections) + "\n"


def escape_markdown(text: str) -> str:
    """`text` on one line, as itself: no character of it is Markdown or HTML any more."""
    line = "".join(c if c.isprintable() else " " for c in text)
    marked = re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:@])", r"\\\1", " ".join(line.split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def size_category(rows: int) -> str:
    """The hub's name for a number of rows, such as `1K<n<10K`."""
    lower = None
    for bound, name in SIZE_STEPS:
        if rows < bound:
            return f"{lower}<n<{name}" if lower else f"n<{name}"
        lower = name
    return f"n>{lower}"


def _header(manifest: Manifest) -> str:
    tags = ["image-editing", "region-annotated", "reward-modeling", "webdataset"]
    header: dict[str, Any] = {
        "pretty_name": manifest.dataset,
        "license": "other",
        "license_name": "sources-keep-their-own-licences",
        "task_categories": ["image-to-image"],
        "tags": tags if manifest.synthetic == "none" else [*tags, "synthetic"],
        "size_categories": [size_category(manifest.rows)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.tar"} for split in _splits(manifest)],
            }
        ],
    }
    if features := _features(manifest):
        header["dataset_info"] = {"features": features}
    return "---\n" + yaml.safe_dump(header, sort_keys=False, allow_unicode=False) + "---"


def _features(manifest: Manifest) -> list[dict[str, str]]:
    """The types of a row in the hub's loader, which else guesses them from five rows and fails at the next kind."""
    members = sorted({name for shard in manifest.shards for name in shard.members})
    types = {"__key__": "string", "__url__": "string"} if members else {}
    types |= {name: "json" if name == "json" else "image" for name in members}
    return [{"name": name, "dtype": dtype} for name, dtype in types.items()]


def _splits(manifest: Manifest) -> list[Split]:
    return [split for split, rows in manifest.splits.items() if rows]


def _summary(manifest: Manifest) -> str:
    synthetic = {
        "all": "**Everything in it is synthetic in part**: the source, the edit or the scores of every row are made by "
        "a program (`synthetic: true` on the row).",
        "some": "**Some of it is synthetic**: such rows say `synthetic: true`.",
        "none": "Nothing in it is synthetic.",
    }[manifest.synthetic]
    return (
        f"# {escape_markdown(manifest.dataset)}\n\n"
        f"Edited images: {manifest.rows:,}, made for {manifest.requests:,} edit requests. Each row is one candidate "
        "with its source image, the instruction, a mask for every region that was named or that changed, and, where "
        "somebody scored it, scores of the named regions, the background and the whole image. Regions that changed "
        f"without being named have a mask and no scores.\n\n{synthetic}"
    )


def _reading(manifest: Manifest) -> str:
    extension = EXTENSIONS[manifest.build.config.get("image_format", "png")]
    split = _splits(manifest)[0]
    shards = [shard.name for shard in manifest.shards if shard.split == split]
    return f"""## How to read it

The tars are [WebDataset](https://github.com/webdataset/webdataset); a sample `<request>-<candidate>` has these members:

| member | what it is |
|---|---|
| `source.{extension}` | the image that was edited, RGB; further sources of a request are `source1.{extension}`, ... |
| `edited.{extension}` | the candidate, the same size |
| `regions.png` | where the row's `regions` lie: 1 for the first, 2 for the second, 0 for none; smaller over larger |
| `json` | the row, fields below, with the mask of each region |

```python
import io
import json

import webdataset
from PIL import Image
from pycocotools import mask as coco_mask

shards = {json.dumps(_brace(shards))}
for sample in webdataset.WebDataset(shards, shardshuffle=False):
    row = json.loads(sample["json"])
    source = Image.open(io.BytesIO(sample["source.{extension}"]))
    edited = Image.open(io.BytesIO(sample["edited.{extension}"]))
    for region in row["regions"]:
        mask = coco_mask.decode(region["mask"])  # height x width, 1 inside
        print(row["key"], region["label"], region["status"], region["reward"], mask.sum())
```

The loader of the Hub reads the same folder (`datasets` 5), whole or with `streaming=True`; a member that a row lacks is
`None`:

```python
import datasets

for row in datasets.load_dataset("FOLDER", split="{split}"):
    print(row["json"]["instruction"], row["edited.{extension}"].size)
```

`manifest.json` has size, sha256 and number of samples of every tar; only these tell that a tar is whole
(`regionwise verify FOLDER`). All candidates of a request lie side by side in one tar."""


def _brace(names: list[str]) -> str:
    """The names of one split's shards, numbered from 0 without a gap, as one brace pattern."""
    if len(names) == 1:
        return names[0]
    stem, last = names[-1].removesuffix(".tar").rsplit("-", 1)
    return f"{stem}-{{{'0' * len(last)}..{last}}}.tar"


def _fields() -> str:
    return (
        f"## What a row is\n\nSchema `{DatasetRow.schema_name}/{DatasetRow.schema_version}`. Boxes are "
        "`[x1, y1, x2, y2]` in whole pixels, half-open. Scores are 0 to "
        f"{SCORE_MAX}, higher is better; `null` is a missing score, which is never filled in.\n\n"
        f"{_field_table(DatasetRow)}\n\n### A region\n\n{_field_table(DatasetRegion)}"
    )


def _field_table(model: type[Record]) -> str:
    schema = model.model_json_schema()
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        meaning = model.model_fields[name].description or ""
        lines.append(f"| `{name}` | {_json_type(field)} | {meaning} |")
    return "\n".join(lines)


def _json_type(field: dict[str, Any]) -> str:
    """The type of a field of a JSON schema, in words."""
    if "$ref" in field:
        return f"object ({field['$ref'].rsplit('/', 1)[-1]})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_json_type(choice) for choice in field["anyOf"]))
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        inner = field.get("items") or next(iter(field.get("prefixItems", ())), None)
        return f"list of {_json_type(inner)}" if inner else "list"
    return str(field.get("type", "any"))


def _counts(manifest: Manifest) -> str:
    lines = ["## How much of it", "", "| split | shards | requests | rows | synthetic rows | size |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for split in _splits(manifest):
        lines.append(_split_line(split, [shard for shard in manifest.shards if shard.split == split]))
    lines += ["", "Splits are by source image: no source, and no near-duplicate of one, is in two splits.", ""]
    lines += ["| edit type | rows |", "|---|---:|"]
    lines += [f"| {escape_markdown(name)} | {count:,} |" for name, count in manifest.edit_types.items()]
    return "\n".join(lines)


def _split_line(split: Split, shards: list[Shard]) -> str:
    requests, rows = sum(shard.requests for shard in shards), sum(shard.samples for shard in shards)
    synthetic, size = sum(shard.synthetic for shard in shards), sum(shard.size_bytes for shard in shards)
    return f"| {split} | {len(shards):,} | {requests:,} | {rows:,} | {synthetic:,} | {size / 1e6:,.1f} MB |"


def _rejects(stages: tuple[StageCount, ...]) -> str:
    lines = ["## What was left out", "", "A dropped row is a record with its reason, never silent.", ""]
    lines += ["| stage | rows in | kept | dropped | by reason |", "|---|---:|---:|---:|---|"]
    for stage in stages:
        reasons = ", ".join(f"`{reason}` {count:,}" for reason, count in stage.rejected.items()) or "none"
        dropped = sum(stage.rejected.values())
        lines.append(f"| {stage.stage} | {stage.rows_in:,} | {stage.kept:,} | {dropped:,} | {reasons} |")
    return "\n".join(lines)


def _scores(manifest: Manifest) -> str:
    lines = ["## Who scored it", ""]
    if not manifest.raters:
        return "\n".join([*lines, "Nobody yet: every score is `null`."])
    lines += ["| rater | rows |", "|---|---:|"]
    lines += [f"| {escape_markdown(rater)} | {count:,} |" for rater, count in manifest.raters.items()]
    if any(rater.startswith(ORACLE_PREFIX) for rater in manifest.raters):
        lines += [
            "",
            "Scores by `oracle:construction` are **synthetic**: no person and no model looked at these images. The "
            "procedural editor knows what it did to each region and which defects it put in, and the scores follow "
            "from that by a formula.",
        ]
    if manifest.scores.startswith(CONSENSUS):
        lines += [
            "",
            f"Scores by `{manifest.scores}` are robust means over the raters of one snapshot of the annotations; "
            "`spreads` says for each score how far they agree and how many answered. Rows with `scores` in "
            "`synthetic_parts` were rated by simulated raters, not by people.",
        ]
    if manifest.unscored:
        lines += ["", f"Rows that nobody scored: {manifest.unscored:,}. All their scores are `null`."]
    lines += [
        "",
        f"Per region, phi = min(success, preserve) and reward = sqrt(phi x AES) / {SCORE_MAX} with AES = "
        "min(naturalness, artifacts). A score that is missing leaves everything made from it missing.",
    ]
    return "\n".join(lines)


def _lineage(manifest: Manifest) -> str:
    build = manifest.build
    facts = {
        "config sha256": build.config_digest,
        "commit": build.commit or "unknown",
        "seeds": _pairs(build.seeds),
        "model revisions": _pairs(build.model_revisions),
        "packages": _pairs(build.packages),
        "parents": ", ".join(build.parents) or "none",
    }
    lines = ["## Where it came from", "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {escape_markdown(value)} |" for name, value in facts.items()]
    lines += [f"| input {escape_markdown(name)} | sha256 `{digest}` |" for name, digest in build.inputs.items()]
    settings = json.dumps(build.config, indent=1, sort_keys=True).replace("`", "\\u0060")
    return "\n".join([*lines, "", "The settings it was built with:", "", "```json", settings, "```"])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"


def _limits(manifest: Manifest) -> str:
    lines = [
        "## Limits",
        "",
        "- Source images keep the licences of those who made them; this card grants nothing.",
        "- Masks come from comparing source and candidate and from the targets that a request names; `origin` and "
        "`confidence` of each region say how it was found. They are not drawn by people unless `origin` says so.",
        "- Images are scaled down to the longest side that the settings name; metadata (EXIF, GPS) is gone.",
    ]
    if manifest.synthetic != "none":
        embedded = is_embedded(str(manifest.build.config.get("editor", EMBEDDED)))
        shown = (
            "plain image processing with flaws put in on purpose"
            if embedded
            else "scenes that a program drew, or edits by a model that has seen no others"
        )
        lines.append(
            f"- Synthetic rows show {shown}. They are for developing and testing, and say nothing about how good a "
            "real editor is."
        )
    return "\n".join(lines)
