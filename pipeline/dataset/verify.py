"""The check of a dataset: every byte, then every sample, against its manifest, and all that follows from the samples.

What is consistent with itself all through was written by this program or by somebody who took pains: only the digest
that the export printed tells them apart (`expect`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dataset.manifest import totals
from pipeline.dataset.shards import FORMAT, ShardCounts, read_manifest, read_samples
from pipeline.run.folder import build_digest
from runtime.files import NotPlainTar, sha256_of_file
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput
from schemas.manifest import Manifest, Shard
from schemas.record import document_digest, other_value

#: What the tools of dataset hubs put into a folder.
OF_HUBS = (".git", ".gitattributes", ".cache", ".huggingface")


@dataclass(frozen=True)
class Fault:
    """Something in a dataset that is not as its manifest says."""

    shard: str
    fault: str


@dataclass
class _Seen:
    """Where keys and requests were met, and the split of each source, over all shards."""

    keys: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def fault(self, row: DatasetRow, shard: Shard) -> str | None:
        """What of a row was met where it must not be."""
        if row.key in self.keys:
            return f"holds {row.key}, which is in {self.keys[row.key]} too"
        self.keys[row.key] = shard.name
        if self.requests.setdefault(row.request, shard.name) != shard.name:
            return f"{row.key}: its request is in {self.requests[row.request]} too"
        for source in row.source_pixels_sha256:
            if self.sources.setdefault(source, shard.split) != shard.split:
                return f"{row.key}: its source is in split {self.sources[source]} too"
        return None


def verify(dataset: Path, *, quick: bool = False, expect: str | None = None) -> tuple[Manifest, list[Fault]]:
    """The manifest, and every way in which the folder differs from it; `quick` leaves the samples unread.

    expect: the manifest's digest, as the export printed it; None for the one that lies beside it in its run, if any.
    Raises: BadInput where there is no readable manifest.
    """
    manifest = read_manifest(dataset)
    faults: list[Fault] = []
    seen = _Seen()
    for shard in manifest.shards:
        found = _bytes_fault(dataset, shard)
        if not found and not quick:
            found = _content_fault(dataset / shard.name, shard, seen)
        faults += [Fault(shard.name, found)] if found else []
    faults += _unknown(dataset, manifest)
    faults += [Fault("manifest.json", fault) for fault in _manifest_faults(dataset, manifest, expect)]
    faults += [Fault("README.md", fault) for fault in _card_faults(dataset, manifest)]
    return manifest, faults


def _unknown(dataset: Path, manifest: Manifest) -> Iterator[Fault]:
    """Files that the manifest does not know."""
    known = {shard.name for shard in manifest.shards} | {"manifest.json", "README.md"}
    for path in sorted(dataset.rglob("*")):
        name = path.relative_to(dataset).as_posix()
        if name in known or name.split("/")[0] in OF_HUBS:
            continue
        if path.is_symlink() or not path.is_dir():
            yield Fault(name, "is not in the manifest")
        elif not any(path.iterdir()):
            yield Fault(name, "is an empty folder that is not in the manifest")


def _manifest_faults(dataset: Path, manifest: Manifest, expect: str | None) -> Iterator[str]:
    if not manifest.shards:
        yield "names no shards"
    yield from _gaps(manifest)
    for name, value in totals(manifest.shards).items():
        if getattr(manifest, name) != value:
            yield f"says {name} = {getattr(manifest, name)}, its shards say {value}"
    export = next((stage for stage in manifest.stages if stage.stage == "export"), None)
    if export is None or export.kept != manifest.rows:
        yield "has another number of rows than its export kept"
    expected = expect or _printed(dataset)
    if expected and manifest.digest != expected:
        yield f"has {f'the digest {manifest.digest}' if manifest.digest else 'no digest'}, expected {expected}"
    document = json.loads((dataset / "manifest.json").read_bytes())
    if document.get("schema") == "manifest/1":
        return
    yield from (f"does not name the members of {shard.name}" for shard in manifest.shards if not shard.members)
    try:
        if place := other_value(document, manifest.model_dump(mode="json")):
            yield f"{place} is not of the type that it should have"
        if manifest.digest != document_digest(document):
            yield "is not as it was written (its digest differs)"
        if manifest.build.config_digest != build_digest(manifest.build):
            yield "has another config_digest than its settings and inputs give"
    except (ValueError, RecursionError):
        yield "has settings that no build can have"
    if not manifest.card_sha256:
        yield "has no sha256 of its card"


def _gaps(manifest: Manifest) -> Iterator[str]:
    """Shards of a split are numbered from 0 without a gap."""
    names: dict[str, list[str]] = {}
    for shard in manifest.shards:
        names.setdefault(shard.split, []).append(shard.name)
        if not shard.name.startswith(f"{shard.split}-"):
            yield f"says that {shard.name} is of the split {shard.split}"
    for split, found in names.items():
        if found != [f"{split}-{number:05d}.tar" for number in range(len(found))]:
            yield f"lacks a shard of {split}: it has {', '.join(found)}"[:300]


def _printed(dataset: Path) -> str | None:
    """The digest that the run kept when it wrote the dataset, where the dataset lies in its run."""
    path = dataset.resolve().parent / "export" / "digest"
    return path.read_text().strip() if dataset.resolve().name == "dataset" and path.is_file() else None


def _card_faults(dataset: Path, manifest: Manifest) -> Iterator[str]:
    path = dataset / "README.md"
    if not path.is_file() or path.is_symlink():
        yield "is missing" if not path.is_symlink() else "is a link"
    elif manifest.card_sha256 and sha256_of_file(path) != manifest.card_sha256:
        yield "is not the card that was written (sha256 differs)"


def _bytes_fault(dataset: Path, shard: Shard) -> str | None:
    path = dataset / shard.name
    if path.is_symlink():
        return "is a link"
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != shard.size_bytes:
        return f"has {path.stat().st_size} bytes, the manifest says {shard.size_bytes}"
    if sha256_of_file(path) != shard.sha256:
        return "has other bytes than were written (sha256 differs)"
    return None


def _content_fault(path: Path, shard: Shard, seen: _Seen) -> str | None:
    """The first sample of a tar that does not fit, or the first count that the manifest has otherwise."""
    counts = ShardCounts()
    try:
        for key, members in read_samples(path):
            try:
                row = FORMAT.row(key, members)
            except BadInput as error:
                return f"{key}: {error}"
            if fault := FORMAT.fault(key, members, shard.split, row):
                return f"{key}: {fault}"
            if fault := seen.fault(row, shard):
                return fault
            counts.add(row, members)
    except NotPlainTar as error:
        return str(error)
    return _count_fault(shard, counts.fields())


def _count_fault(shard: Shard, found: Mapping[str, Any]) -> str | None:
    if not shard.members:  # a manifest from before members were noted
        found = {name: value for name, value in found.items() if name != "members"}
    for name, value in found.items():
        if getattr(shard, name) != value:
            return f"has {value} {name}, the manifest says {getattr(shard, name)}"
    return None
