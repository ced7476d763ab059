"""What was dropped, for the report: counts by stage and reason with a few examples each, from the stages' tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.compute as pc

from pipeline.dataset.export import read_dropped
from pipeline.report.images import Pictures
from pipeline.run.folder import read_columns, read_done
from pipeline.run.image_store import read_image_bytes
from schemas.manifest import StageCount
from schemas.sample import Rejection

EXAMPLES = 4
#: Rejects of a reason that are read to choose the examples from.
LOOKED_AT = 64
#: What each reason says, for readers who have not seen the code; a reason not named here is shown by its code alone.
MEANINGS = {
    "aspect": "the image is too long for its width",
    "bad_mask": "a target's mask does not fit the image",
    "bad_parameter": "the editor cannot use a parameter of the request",
    "bad_record": "the request is not as the schema says",
    "bad_target_box": "a target's box cannot be edited",
    "blank": "the picture is one flat colour",
    "box_outside_image": "a target's box leaves the image",
    "changed_all_over": "pixels changed nearly everywhere, not only where they should",
    "duplicate_across_sources": "a near copy of a candidate made from another source",
    "duplicate_id": "a request with that name came before",
    "duplicate_request": "the same instruction and targets on a near copy of another request's source",
    "empty_file": "the image file has no bytes",
    "kills_worker": "a worker process ended three times while it worked on it",
    "misaligned": "the candidate lies too far from its source",
    "missing_file": "a file that the request names is not there",
    "near_duplicate": "a near copy of another candidate of the same request",
    "newer_schema": "written for a later version than this one reads",
    "no_destination": "something is to be moved, but the request does not say where to",
    "no_target": "the request names nothing to edit",
    "no_target_box": "a target has no box, and the editor needs one",
    "no_usable_candidate": "none of the candidates that the request brought can be used",
    "not_aligned": "the candidate does not show its source, or not as a whole",
    "other_aspect": "a candidate has another shape than its source (runs of earlier versions)",
    "path_outside": "a path leaves the folder of its request file",
    "preservation": "what nobody asked to change moved too far",
    "remote_refused": "addresses are not fetched",
    "size": "the image is too small to show an edit",
    "too_large": "the image has too many pixels to be opened safely",
    "too_many_pixels": "the images of the request have too many pixels together to be opened safely",
    "unchanged": "the candidate equals its source apart from noise",
    "unknown_operation": "the editor does not know the operation",
    "unreadable": "the image could not be decoded",
    "unreadable_line": "the line of the request file could not be read",
}


@dataclass(frozen=True)
class RejectView:
    """One dropped row. pictures: name, width and height of its source and its edited image; none without images."""

    rejection: Rejection
    pictures: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class ReasonView:
    """A reason of one stage: how many rows it dropped, and the first of them."""

    stage: str
    reason: str
    meaning: str
    count: int
    examples: tuple[RejectView, ...]


def reason_views(run: Path, n_parts: int, counts: tuple[StageCount, ...], pictures: Pictures) -> list[ReasonView]:
    """Every reason of every stage with its first examples, the most frequent of a stage first."""
    views = []
    for count in counts:
        for reason, number in sorted(count.rejected.items(), key=lambda item: (-item[1], item[0])):
            if number:
                found = _examples(run, n_parts, count.stage, reason)
                examples = tuple(_example(run, rejection, pictures) for rejection in found)
                views.append(ReasonView(count.stage, reason, MEANINGS.get(reason, ""), number, examples))
    return views


def _examples(run: Path, n_parts: int, stage: str, reason: str) -> list[Rejection]:
    """The first rejects of a reason; only parts whose done-file counts it are opened."""
    if stage == "export":
        return _left_out(run, reason)
    found: list[Rejection] = []
    for part in range(n_parts):
        done = read_done(run, stage, part)
        if done and done.rejected.get(reason):
            table = read_columns(run, stage, part, ["reason", "record"])
            records = table.filter(pc.equal(table["reason"], reason))["record"].to_pylist()
            found += [Rejection.from_json(record, thing=stage) for record in records[:LOOKED_AT]]
        if len(found) >= LOOKED_AT:
            break
    return _different(found)


def _different(found: list[Rejection]) -> list[Rejection]:
    """The first `EXAMPLES` of `found`, of different sources as far as there are any."""
    seen: set[str] = set()
    fresh: list[Rejection] = []
    others: list[Rejection] = []
    for rejection in found:
        source = rejection.sample.request.sources[0].pixels_sha256 if rejection.sample else rejection.key
        (others if source in seen else fresh).append(rejection)
        seen.add(source)
    return [*fresh, *others][:EXAMPLES]


def _left_out(run: Path, reason: str) -> list[Rejection]:
    """Samples that the export left out."""
    drops = islice((drop for drop in read_dropped(run) if drop.reason == reason), EXAMPLES)
    return [
        Rejection(stage="export", key=drop.key, name=drop.name, reason=reason, detail=f"repeats {drop.same_as}")
        for drop in drops
    ]


def _example(run: Path, rejection: Rejection, pictures: Pictures) -> RejectView:
    sample = rejection.sample
    if sample is None or sample.edited is None or sample.candidate is None:
        return RejectView(rejection)
    source = pictures.share(sample.request.sources[0].pixels_sha256, read_image_bytes(run, sample.sources[0]))
    edited = pictures.share(sample.candidate.pixels_sha256, read_image_bytes(run, sample.edited))
    return RejectView(rejection, (source, edited))


def dropped_candidates(run: Path, n_parts: int, requests: set[str]) -> dict[str, list[Rejection]]:
    """The candidates of `requests` that the gates dropped; the records of other rows stay unread."""
    found: dict[str, list[Rejection]] = {}
    for part in range(n_parts):
        for rejection in _dropped_in(run, part, requests):
            if rejection.sample is not None and rejection.sample.edited is not None:
                found.setdefault(rejection.sample.request.id, []).append(rejection)
    return found


def _dropped_in(run: Path, part: int, requests: set[str]) -> Iterator[Rejection]:
    done = read_done(run, "gates", part)
    if done is None or not done.rejected:
        return
    keys = read_columns(run, "gates", part, ["request", "kept"])
    pairs = zip(keys["request"].to_pylist(), keys["kept"].to_pylist(), strict=True)
    rows = [index for index, (request, kept) in enumerate(pairs) if not kept and request in requests]
    if rows:
        for record in read_columns(run, "gates", part, ["record"])["record"].take(rows).to_pylist():
            yield Rejection.from_json(record, thing="gates")
