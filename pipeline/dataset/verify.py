"""The check of a dataset: every byte, then every sample, against its manifest."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.shards import FORMAT, read_manifest, read_samples
from runtime.files import NotPlainTar, sha256_of_file
from schemas.manifest import Manifest, Shard


@dataclass(frozen=True)
class Fault:
    """Something in a dataset that is not as its manifest says."""

    shard: str
    fault: str


def verify(dataset: Path, *, quick: bool = False) -> tuple[Manifest, list[Fault]]:
    """The manifest, and every way in which the tars differ from it; `quick` leaves the samples unread.

    Raises: BadInput where there is no readable manifest.
    """
    manifest = read_manifest(dataset)
    faults: list[Fault] = []
    keys: dict[str, str] = {}
    for shard in manifest.shards:
        found = _bytes_fault(dataset, shard)
        if not found and not quick:
            found = _content_fault(dataset / shard.name, shard, keys)
        faults += [Fault(shard.name, found)] if found else []
    known = {shard.name for shard in manifest.shards}
    faults += [Fault(path.name, "is not in the manifest") for path in _tars(dataset) if path.name not in known]
    if sum(shard.samples for shard in manifest.shards) != manifest.rows:
        faults.append(Fault("manifest.json", f"says {manifest.rows} rows, its shards say otherwise"))
    return manifest, faults


def _tars(dataset: Path) -> list[Path]:
    return sorted(dataset.glob("*.tar"))


def _bytes_fault(dataset: Path, shard: Shard) -> str | None:
    path = dataset / shard.name
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != shard.size_bytes:
        return f"has {path.stat().st_size} bytes, the manifest says {shard.size_bytes}"
    if sha256_of_file(path) != shard.sha256:
        return "has other bytes than were written (sha256 differs)"
    return None


def _content_fault(path: Path, shard: Shard, keys: dict[str, str]) -> str | None:
    """The first sample of a tar that does not fit, and its count. `keys` collects every key over all shards."""
    count = 0
    try:
        for key, members in read_samples(path):
            count += 1
            if key in keys:
                return f"holds {key}, which is in {keys[key]} too"
            keys[key] = shard.name
            if fault := FORMAT.fault(key, members, shard.split):
                return f"{key}: {fault}"
    except NotPlainTar as error:
        return str(error)
    return None if count == shard.samples else f"has {count} samples, the manifest says {shard.samples}"
