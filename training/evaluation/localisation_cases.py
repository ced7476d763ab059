"""Test cases for localisation: candidates with exactly one known defect, on a named region or the background.

Scenes come from a seed and from textures that training must not have seen. Masks are found as at run time, by the
segmenter and `fuse`, on the clean twin, and serve the flawed candidate as well: found on that itself, their outlines
would tell of the flaw (a spill lies in its own mask then, and is found by the mask's shape without the source).
Unplanned regions (`extra-n`) have no verdict; with `extras` a reward is given their masks all the same, as found on
each image, and else what lies there is the background's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.editors.defects import DEFECT_KINDS, is_visible
from pipeline.editors.oracle import construction_score
from pipeline.editors.procedural import IN_REGION_ONLY, ProceduralEditor
from pipeline.editors.protocol import CannotEdit, Edit, candidate_record
from pipeline.gates.measures import GateSettings, source_fault
from pipeline.models.protocols import Segmenter
from pipeline.regions.difference import DifferenceSegmenter
from pipeline.regions.fuse import fuse
from pipeline.regions.planned import plan_regions
from pipeline.requests.edit_requests import edit_request
from pipeline.requests.lines import open_line
from pipeline.requests.scenes import TEXTURES
from pipeline.run.folder import read_build_info, read_kept
from pipeline.run.image_store import read_image
from pipeline.run.plan import scene_lines
from runtime.images import ImageU8, pixels_sha256
from runtime.masks import rle_to_mask
from schemas.candidate import Defect
from schemas.record import short_hash
from schemas.region import region_id
from schemas.request import EditRequest
from schemas.reward import BACKGROUND, Band
from schemas.sample import Sample
from schemas.score import SCORE_MAX, CandidateScore, phi
from training.reward.features import UNPLANNED
from training.reward_protocol import RewardQuery

#: Never to be trained on: the last four textures, and the seeds of test scenes. Whoever chooses settings by these tests
#: does it on the development seed, so that the held-out one measures what nothing was fitted to.
HELD_OUT_TEXTURES = TEXTURES[-4:]
HELD_OUT_SEED, DEVELOPMENT_SEED = 517_903, 904_211
#: Strengths of each band, as the editor draws them from 0.15 up.
BANDS: dict[Band, tuple[float, float]] = {"weak": (0.15, 0.39), "medium": (0.4, 0.69), "strong": (0.7, 1.0)}
BACKGROUND_KINDS = ("background_drift", *(kind for kind in DEFECT_KINDS if kind not in IN_REGION_ONLY))

Opened = tuple[EditRequest, list[ImageU8]]


@dataclass(frozen=True)
class DefectCase:
    """One candidate with one defect, and its clean twin: the same request carried out without a flaw.

    source: the unit of the bootstrap. labels: region id -> what the request calls it. truth: scores by construction;
    every score of the twin is 25.
    """

    key: str
    source: str
    request: EditRequest
    defect: Defect
    band: Band
    query: RewardQuery
    twin: RewardQuery
    labels: Mapping[str, str]
    truth: CandidateScore

    @property
    def place(self) -> str:
        """The key of the flawed place."""
        return BACKGROUND if self.defect.target is None else region_id(self.request.id, self.defect.target)

    @cached_property
    def true_phi(self) -> dict[str, float | None]:
        """phi of every place by construction, 0..25."""
        return {**{region.region: phi(region) for region in self.truth.regions}, BACKGROUND: self.truth.background}

    @cached_property
    def verdicts(self) -> dict[str, bool | None]:
        """place -> whether it is flawed; None where the defect sits elsewhere but costs this place points, too."""
        return {
            key: True if key == self.place else (False if points == SCORE_MAX else None)
            for key, points in self.true_phi.items()
        }


@dataclass(frozen=True)
class Kind:
    """What a case has to be: a defect of a band of strength, in a region or in the background."""

    defect: str
    background: bool
    band: Band


def all_kinds() -> tuple[Kind, ...]:
    """Every defect in every sort of place where it can sit, in every band."""
    places = [(kind, False) for kind in DEFECT_KINDS if kind != "background_drift"]
    places += [(kind, True) for kind in dict.fromkeys(BACKGROUND_KINDS)]
    return tuple(Kind(defect, background, band) for defect, background in places for band in BANDS)


def scene_cases(
    sources: int,
    per_source: int = 3,
    *,
    seed: int = HELD_OUT_SEED,
    size_px: int = 128,
    textures: tuple[str, ...] = HELD_OUT_TEXTURES,
    extras: bool = False,
) -> tuple[list[DefectCase], dict[str, int]]:
    """Cases on `sources` procedural scenes, kinds and bands evenly; as `make_cases`."""
    return make_cases(opened_scenes(sources, seed, size_px, textures), per_source, seed, extras=extras)


def photo_cases(
    run: Path, photo: str, per_request: int = 4, *, seed: int = HELD_OUT_SEED, extras: bool = False
) -> tuple[list[DefectCase], dict[str, int]]:
    """Cases on one photograph of a built run, for a reward that was trained without it; as `make_cases`.

    photo: the name of a source as the requests have it.
    """
    opened = (opened for opened in _photo_requests(run) if _photo(opened[0]) == photo)
    return make_cases(opened, per_request, seed, extras=extras)


def photos(run: Path) -> tuple[str, ...]:
    """The names of the photographs that a run has requests on."""
    return tuple(sorted({_photo(row.request) for row in _photo_rows(run)}))


def _photo(request: EditRequest) -> str:
    return request.sources[0].name


def _photo_rows(run: Path) -> Iterator[Sample]:
    for part in range(read_build_info(run).n_parts):
        yield from (row for row in read_kept(run, "requests", part) if _is_usable(row.request))


def _is_usable(request: EditRequest) -> bool:
    """A photograph with targets that leave a background."""
    placed = all(target.box is not None or target.mask is not None for target in request.targets)
    return not request.synthetic and bool(request.targets) and placed


def _photo_requests(run: Path) -> Iterator[Opened]:
    for row in _photo_rows(run):
        yield row.request, [read_image(run, ref) for ref in row.sources]


def opened_scenes(count: int, seed: int, size_px: int, textures: tuple[str, ...]) -> Iterator[Opened]:
    """Scenes with their requests as the pipeline's first stage makes them."""
    for planned in scene_lines(seed, count, size_px):
        opened = open_line(planned, textures)
        images = list(opened.images())
        if not any(source_fault(image, GateSettings()) for image in images):
            origins = [pixels_sha256(image) for image in images]
            yield edit_request(opened, opened.line.targets, origins, images), images


def make_cases(
    requests: Iterable[Opened], per_request: int, seed: int, *, extras: bool = False
) -> tuple[list[DefectCase], dict[str, int]]:
    """(cases, kind of defect -> how often it could not be put in so that it is seen).

    Each request gets up to `per_request` different kinds, the least used so far first; the same arguments give the
    same cases. A request that the editor cannot carry out gives none.
    """
    maker = _Maker(ProceduralEditor(), DifferenceSegmenter(), extras)
    used: Counter[Kind] = Counter()
    unmade: Counter[str] = Counter()
    cases: list[DefectCase] = []
    for request, images in requests:
        rng = np.random.default_rng(int(short_hash("localisation", seed, request.id), 16))
        made = _cases_of(maker, (request, images), _in_turn(used, rng), per_request, rng, unmade)
        used.update(Kind(case.defect.kind, case.defect.target is None, case.band) for case in made)
        cases += made
    return cases, dict(sorted(unmade.items()))


def _in_turn(used: Counter[Kind], rng: np.random.Generator) -> list[Kind]:
    """All kinds, the least used first, equally used ones shuffled."""
    kinds = [all_kinds()[place] for place in rng.permutation(len(all_kinds()))]
    return sorted(kinds, key=lambda kind: used[kind])


@dataclass(frozen=True)
class _Maker:
    """What edits and what finds masks. extras: whether queries hold the masks of unplanned regions."""

    editor: ProceduralEditor
    segmenter: Segmenter
    extras: bool

    def query(self, opened: Opened, edit: Edit) -> RewardQuery:
        """The query about a candidate: the masks of its regions as the pipeline finds them."""
        request, (source, *_) = opened
        height, width = edit.image.shape[:2]
        planned = plan_regions(request, width, height)
        observed = fuse(request, "0" * 16, planned, self.segmenter.changed(source, edit.image), (height, width))
        masks = {
            region.region: rle_to_mask(region.mask)
            for region in observed
            if self.extras or region.status != "unplanned"
        }
        return RewardQuery(source=source, edited=edit.image, instruction=request.instruction, masks=masks)

    def beside(self, opened: Opened, edit: Edit, twin: RewardQuery) -> RewardQuery:
        """The query about a flawed candidate: its twin's masks of the planned regions, its own of the unplanned ones.

        Without `extras` it has no masks of its own, and none are looked for.
        """
        planned = {key: mask for key, mask in twin.masks.items() if not key.startswith(UNPLANNED)}
        own = self.query(opened, edit).masks if self.extras else {}
        extras = {key: mask for key, mask in own.items() if key.startswith(UNPLANNED)}
        return replace(twin, edited=edit.image, masks=planned | extras)

    def flawed(self, opened: Opened, defect: Defect) -> Edit | None:
        """The flawed rendering; None where the defect has no place or cannot be seen."""
        try:
            edit = self.editor.render(*opened, 0, (defect,))
            return edit if is_visible(self.editor.plan(*opened), defect, edit.image) else None
        except CannotEdit:
            return None


def _cases_of(
    maker: _Maker,
    opened: Opened,
    kinds: Sequence[Kind],
    most: int,
    rng: np.random.Generator,
    unmade: Counter[str],
) -> list[DefectCase]:
    try:
        twin = maker.query(opened, maker.editor.render(*opened, 0, ()))
    except CannotEdit as error:
        unmade[error.reason] += 1
        return []
    cases: list[DefectCase] = []
    for kind in kinds:
        if len(cases) == most:
            break
        defect = _defect(kind, len(opened[0].targets), rng)
        if defect is None:
            continue
        edit = maker.flawed(opened, defect)
        if edit is None:
            unmade[kind.defect] += 1
            continue
        cases.append(_case(opened[0], kind, edit, maker.beside(opened, edit, twin), twin))
    return cases


def _defect(kind: Kind, n_targets: int, rng: np.random.Generator) -> Defect | None:
    """The defect, its strength drawn in its band; None where it needs another target and there is none."""
    target = None if kind.background else int(rng.integers(n_targets))
    if kind.defect == "other_object" and not kind.background and n_targets < 2:
        return None
    return Defect(kind=kind.defect, target=target, strength=round(float(rng.uniform(*BANDS[kind.band])), 2))


def _case(request: EditRequest, kind: Kind, edit: Edit, query: RewardQuery, twin: RewardQuery) -> DefectCase:
    defect = edit.defects[0]
    candidate = candidate_record(
        request,
        edit,
        index=0,
        editor=ProceduralEditor.name,
        revision=ProceduralEditor.revision,
        synthetic=ProceduralEditor.synthetic,
    )
    return DefectCase(
        key=f"{request.id}-{candidate.id}",
        source=request.sources[0].pixels_sha256,
        request=request,
        defect=defect,
        band=kind.band,
        query=query,
        twin=twin,
        labels={region_id(request.id, index): target.label for index, target in enumerate(request.targets)},
        truth=construction_score(request, candidate),
    )
