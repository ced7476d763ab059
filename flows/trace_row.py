"""`regionwise trace`: what became of one request or candidate, stage by stage, up to the tar that holds it.

A row that is in no tar was left out by the export, or not exported yet: which of them is said too.
"""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.dataset.export import read_dropped
from pipeline.dataset.plan import DroppedKey
from pipeline.run.folder import STAGES, Row, read_build_info, read_done, read_rows
from runtime.files import NotPlainTar, tar_members
from schemas.errors import BadInput, printable
from schemas.sample import Rejection, Sample


def trace_key(run: Path, key: str, as_json: bool) -> None:
    """Prints every row of a run whose key, ids or name are `key`. Raises: BadInput where there is none."""
    found = list(_facts(run, key))
    if not found:
        raise BadInput(f"key {key!r}", f"is in no stage of {run}", "give a request's id or name, or a sample's key")
    kept = {fact["key"] for fact in found if fact["stage"] == STAGES[-1] and fact["kept"]}
    tars = _tars_of(run, kept)
    found += [_left_out(drop) for drop in read_dropped(run) if drop.key in kept - tars.keys()]
    if as_json:
        print(json.dumps({"key": key, "rows": found, "tars": tars}))
        return
    console = Console()
    for fact in found:
        line = f"{fact['stage']:<11}{fact['key']:<34}{'kept' if fact['kept'] else 'dropped':<8}{fact['what']}"
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    dropped = {fact["key"] for fact in found if not fact["kept"]}
    waiting = dict.fromkeys(sorted(kept - tars.keys() - dropped), "in no tar yet; write them with `regionwise export`")
    for sample, tar in (tars | waiting).items():
        console.print(f"{'dataset':<11}{sample:<34}{tar}", highlight=False, markup=False, soft_wrap=True)


def _left_out(drop: DroppedKey) -> dict[str, Any]:
    what = f"{drop.reason}: repeats {drop.same_as}"
    return {"stage": "export", "part": None, "key": drop.key, "kept": False, "what": what, "record": asdict(drop)}


def _facts(run: Path, key: str) -> Iterator[dict[str, Any]]:
    n_parts = read_build_info(run).n_parts
    for stage in STAGES:
        for part in range(n_parts):
            if read_done(run, stage, part):
                for row in read_rows(run, stage, part):
                    if _is_about(row, key):
                        yield _fact(row, stage, part)


def _is_about(row: Row, key: str) -> bool:
    sample = row.sample if isinstance(row, Rejection) else row
    names = {row.name} if isinstance(row, Rejection) else set[str]()
    names |= {sample.request.id, sample.request.name} if sample else set()
    return _composed(key) in map(_composed, {row.key, *row.key.split("-"), *names})


def _composed(name: str) -> str:
    """A name in one Unicode form: what is typed and what stands in a file may differ in theirs."""
    return unicodedata.normalize("NFC", name)


def _fact(row: Row, stage: str, part: int) -> dict[str, Any]:
    if isinstance(row, Rejection):
        against = "" if row.measure is None else f" ({row.measure:.4g} against {row.threshold:.4g})"
        what = f"{row.reason}: {row.detail}{against}"
    else:
        what = _what(row, stage)
    fact = {"stage": stage, "part": part, "key": row.key, "kept": not isinstance(row, Rejection), "what": what}
    return fact | {"record": row.model_dump(mode="json")}


def _what(row: Sample, stage: str) -> str:
    """One line on what a stage found out about a row that it kept."""
    candidate = row.candidate
    if candidate is None:
        return f"{row.request.instruction[:60]} ({len(row.request.targets)} targets)"
    if stage == "candidates":
        defects = ", ".join(f"{defect.kind} {defect.strength:.2f}" for defect in candidate.defects)
        return f"candidate {candidate.index + 1} by {candidate.editor}{f', with {defects}' if defects else ''}"
    if stage == "regions":
        return ", ".join(f"{region.region} {region.status}" for region in row.observed) or "no region"
    return ", ".join(f"{measure.gate} {measure.value:.3g}" for measure in row.measures)


def _tars_of(run: Path, keys: set[str]) -> dict[str, str]:
    """Key -> the tar of the dataset that holds it; only member names are read."""
    found: dict[str, str] = {}
    for path in sorted((run / "dataset").glob("*.tar")):
        if len(found) == len(keys):
            break
        try:
            names = {member.name.partition(".")[0] for member in tar_members(path)}
        except NotPlainTar:
            continue
        found |= {key: path.name for key in sorted(keys & names)}
    return found
