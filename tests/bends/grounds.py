"""What is bent: requests with their pictures, runs and a dataset of them, each made once and copied for each strike."""

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.build import run_stage_part
from pipeline.dataset.export import read_dropped
from pipeline.dataset.shards import read_samples
from pipeline.dataset.verify import verify
from pipeline.prepare import config_of, prepare_run
from pipeline.run.folder import STAGES, read_build_info, read_done, read_rows
from runtime.files import TEMPORARY_PREFIX
from schemas.sample import Rejection
from tests.bends.typed import typed
from tests.cases.bendings import FORMS, Fields, requests, written
from tests.chaos.command import dataset_of
from tests.chaos.processes import Broken

#: Of the two parts, how far each is in a run that was stopped.
HALF = (("requests", "candidates", "regions"), ("requests",))
#: The members of each sample of a dataset, by the name of its request.
Samples = dict[str, list[tuple[str, dict[str, bytes]]]]


@dataclass(frozen=True)
class Reject:
    """What a run dropped, and why."""

    name: str
    reason: str
    detail: str


def build_words(run: Path, requests_file: Path) -> list[str]:
    """The command that builds all of it: a candidate each, two parts, a tar for two samples."""
    small = ("--size-px", "64", "--k", "1", "--part-requests", "2", "--shard-samples", "2", "--max-reject-share", "1")
    return ["build", "--run", str(run), "--requests", str(requests_file), *small]


class Grounds:
    """The folder that everything happens in. what: the place that is bent now, for a finding."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.what, self._places = folder, "", 0

    @cached_property
    def _photos(self) -> tuple[Path, list[Fields]]:
        lines = requests(self.folder / "photos")
        return self.folder / "photos", lines

    def lines(self) -> list[Fields]:
        """The requests, to bend."""
        return deepcopy(self._photos[1])

    def names(self) -> set[str]:
        """The ids of all requests."""
        return {line["id"] for line in self._photos[1]}

    def place(self) -> Path:
        """A new folder with `photos/`, in which the request file is wanting."""
        self._places += 1
        place = self.folder / f"place-{self._places}"
        shutil.copytree(self._photos[0], place / "photos")
        return place

    def write(self, place: Path, form: str, data: bytes | None = None) -> Path:
        """The request file of a place, unbent without `data`."""
        path = place / "photos" / f"requests.{form}"
        path.write_bytes(written(self.lines(), form) if data is None else data)
        return path

    @cached_property
    def finished(self) -> Path:
        """A folder with `photos/` and a finished `run/`; never changed."""
        place = self.place().rename(self.folder / "finished")
        typed(*build_words(place / "run", self.write(place, "jsonl"))).require_done()
        return place

    @cached_property
    def half(self) -> Path:
        """A folder with `photos/` and a `run/` that was stopped between its parts; never changed."""
        place = self.place().rename(self.folder / "half")
        file = self.write(place, "jsonl")
        config = config_of(read_build_info(self.finished / "run"), self.finished / "run")
        prepare_run(place / "run", config.model_copy(update={"requests": (str(file),)}))
        for part, stages in enumerate(HALF):
            for stage in stages:
                run_stage_part(str(place / "run"), stage, part)
        return place

    def copy(self, whole: Path) -> Path:
        """A copy of a folder, to bend."""
        self._places += 1
        return shutil.copytree(whole, self.folder / f"place-{self._places}")

    @cached_property
    def datasets(self) -> dict[str, dict[str, object]]:
        """What is made of the unbent requests in each form: the same tars, and manifests that name its file."""
        found = {FORMS[0]: dataset_of(self.finished / "run")}
        for form in FORMS[1:]:
            place = self.place()
            typed(*build_words(place / "run", self.write(place, form))).require_done()
            found[form] = dataset_of(place / "run")
            if found[form]["tars"] != found[FORMS[0]]["tars"]:
                raise AssertionError(f"{form} makes other tars")
        return found

    @cached_property
    def samples(self) -> Samples:
        """The unbent samples."""
        return samples_of(self.finished / "run")

    def require_unbent(self, run: Path, form: str = FORMS[0]) -> None:
        """Raises: Broken where a run's dataset is not the unbent one, byte by byte."""
        require_sound(run)
        found = dataset_of(run)
        if others := [name for name in found if found[name] != self.datasets[form][name]]:
            now = samples_of(run)
            rows = [name for name in self.samples if now.get(name) != self.samples[name]]
            raise Broken(f"without a word it made another dataset: {', '.join(others + rows)}")


def samples_of(run: Path) -> Samples:
    """The samples of a run's dataset."""
    found: Samples = {}
    for path in sorted((run / "dataset").glob("*.tar")):
        for key, members in read_samples(path):
            found.setdefault(json.loads(members["json"])["request_name"], []).append((key, members))
    return found


def rejects_of(run: Path) -> list[Reject]:
    """All that a run dropped, the last stage's among them. Raises: Broken for one without a reason."""
    parts = range(read_build_info(run).n_parts)
    units = [(stage, part) for stage in STAGES for part in parts if read_done(run, stage, part)]
    rows = [row for stage, part in units for row in read_rows(run, stage, part) if isinstance(row, Rejection)]
    found = [Reject(row.name, row.reason, row.detail) for row in rows]
    if (blank := next((one for one in found if not one.reason or not one.detail), None)) is not None:
        raise Broken(f"a reject without a word: {blank}")
    return [*found, *(Reject(drop.name, drop.reason, "") for drop in read_dropped(run))]


def require_sound(run: Path) -> None:
    """Raises: Broken where a dataset does not verify, or something half written lies about."""
    _, faults = verify(run / "dataset")
    if faults:
        raise Broken(f"verify finds: {faults[0].shard}: {faults[0].fault}")
    require_whole(run)


def require_whole(run: Path) -> None:
    """Raises: Broken where something half written lies about."""
    left = [path for path in run.rglob(f"{TEMPORARY_PREFIX}*") if "." in path.name[len(TEMPORARY_PREFIX) :]]
    left = [path for path in left if path.read_bytes() != b"\x00\x01stray"]
    if left:
        raise Broken(f"it left {left[0].name} behind")
