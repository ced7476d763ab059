"""The requests that the report shows, ready for its template: pictures, outlines, regions and their scores."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.entries import Entry
from pipeline.report.images import Pictures, outline
from pipeline.report.rejects import dropped_candidates
from pipeline.run.image_store import read_image_bytes
from runtime.masks import rle_to_mask
from schemas.candidate import Defect
from schemas.dataset_row import DatasetRegion, DatasetRow
from schemas.geometry import Box
from schemas.region import region_id
from schemas.sample import Rejection, Sample

#: Colours of planned regions, told apart by colour-blind readers too; more regions begin anew, their number stays.
N_COLOURS = 7
#: Candidates of one request that are shown.
MOST_CANDIDATES = 12
#: The small sign with a region's number, px.
MARK_WIDTH, MARK_HEIGHT = 20, 15


@dataclass(frozen=True)
class BoxView:
    """A box on a picture, in its pixels. number: of the target, from 1."""

    number: int
    colour: int
    label: str
    x: float
    y: float
    width: float
    height: float
    destination: bool = False

    @property
    def mark_y(self) -> float:
        """Where its sign goes."""
        return mark_y(self.y)


@dataclass(frozen=True)
class RegionView:
    """A region of a candidate. mark: `1`, `2`, ... for planned ones, `+1`, ... for those nobody asked for."""

    mark: str
    colour: str
    region: DatasetRegion
    path: str
    mark_x: float
    mark_y: float


@dataclass(frozen=True)
class CandidateView:
    """One candidate. picture: its name on the page.

    row: its scores; None for one that a gate dropped, which has `rejection` instead.
    """

    number: int
    picture: str
    editor: str
    regions: tuple[RegionView, ...]
    defects: tuple[tuple[Defect, str], ...]
    row: DatasetRow | None
    rejection: Rejection | None
    mean_reward: float | None

    @property
    def listed(self) -> list[RegionView]:
        """The regions with a line of their own: planned ones, and any other that has a score."""
        return [view for view in self.regions if view not in self._unscored()]

    @property
    def n_unplanned(self) -> int:
        """How many regions changed without being asked for, and have no score."""
        return len(self._unscored())

    @property
    def unplanned_share(self) -> float:
        """The share of the image that those regions take, 0..1."""
        pixels = self.row.width_px * self.row.height_px if self.row else 1
        return sum(view.region.area_px for view in self._unscored()) / pixels

    def _unscored(self) -> list[RegionView]:
        return [
            view
            for view in self.regions
            if view.region.status == "unplanned" and view.region.success is None and view.region.preserve is None
        ]


@dataclass(frozen=True)
class RequestView:
    """One request with its candidates, best first. picture: its source's name on the page; made: how many it has."""

    row: DatasetRow
    photo: bool
    picture: str
    width: int
    height: int
    more_sources: tuple[tuple[str, int, int], ...]
    boxes: tuple[BoxView, ...]
    candidates: tuple[CandidateView, ...]
    made: int
    best: float | None
    worst: float | None
    defects: tuple[str, ...]


def request_views(run: Path, n_parts: int, chosen: list[list[Entry]], pictures: Pictures) -> list[RequestView]:
    """The requests of `chosen`, with the candidates of theirs that the gates dropped."""
    dropped = dropped_candidates(run, n_parts, {entries[0].request for entries in chosen})
    return [_request(run, entries, dropped.get(entries[0].request, []), pictures) for entries in chosen]


def _request(run: Path, entries: list[Entry], dropped: list[Rejection], pictures: Pictures) -> RequestView:
    made, entries = len(entries) + len(dropped), entries[:MOST_CANDIDATES]
    rows = [entry.row() for entry in entries]
    row, members = rows[0], entries[0].members
    sources = [
        pictures.share(digest, members[f"source{index or ''}"].read())
        for index, digest in enumerate(row.source_pixels_sha256)
    ]
    picture, width, height = sources[0]
    kept = [_candidate(found, entry, pictures, width, height) for found, entry in zip(rows, entries, strict=True)]
    kept.sort(key=lambda view: (-(view.mean_reward if view.mean_reward is not None else -1), view.number))
    rewards = [view.mean_reward for view in kept if view.mean_reward is not None]
    return RequestView(
        row=row,
        photo=entries[0].photo,
        picture=picture,
        width=width,
        height=height,
        more_sources=tuple(sources[1:]),
        boxes=tuple(_boxes(row, width, height)),
        candidates=(
            *kept,
            *(_dropped(run, rejection, pictures) for rejection in dropped[: MOST_CANDIDATES - len(kept)]),
        ),
        made=made,
        best=max(rewards, default=None),
        worst=min(rewards, default=None),
        defects=tuple(sorted({defect.kind for view in kept for defect, _ in view.defects})),
    )


def _boxes(row: DatasetRow, width: int, height: int) -> Iterable[BoxView]:
    """The boxes of the targets, old place and new; of a target without one the planned box, if it has any."""
    planned = {region.region: region.planned_box for region in row.regions}
    for index, target in enumerate(row.targets):
        box = target.box or planned.get(region_id(row.request, index))
        for place, destination in ((box, False), (target.destination, True)):
            if place:
                x1, y1, x2, y2 = _scaled(place, row, width, height)
                colour = index % N_COLOURS
                yield BoxView(index + 1, colour, target.label, x1, y1, x2 - x1, y2 - y1, destination)


def _scaled(box: Box, row: DatasetRow, width: int, height: int) -> tuple[float, float, float, float]:
    across, down = width / row.width_px, height / row.height_px
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _candidate(row: DatasetRow, entry: Entry, pictures: Pictures, width: int, height: int) -> CandidateView:
    numbers = {region_id(row.request, index): index for index in range(len(row.targets))}
    extras = [region.region for region in row.regions if region.region not in numbers]
    return CandidateView(
        number=row.candidate_index + 1,
        picture=pictures.share(row.edited_pixels_sha256, entry.members["edited"].read())[0],
        editor=row.editor,
        regions=tuple(_region(row, region, numbers, extras, width, height) for region in row.regions),
        defects=_placed(row.defects),
        row=row,
        rejection=None,
        mean_reward=mean_reward(row),
    )


def _region(
    row: DatasetRow, region: DatasetRegion, numbers: dict[str, int], extras: list[str], width: int, height: int
) -> RegionView:
    planned = region.region in numbers
    position = numbers[region.region] if planned else extras.index(region.region)
    x1, y1 = _scaled(region.box, row, width, height)[:2] if region.box else (-99.0, -99.0)
    return RegionView(
        mark=str(position + 1) if planned else f"+{position + 1}",
        colour=f"c{position % N_COLOURS}" if planned else "cx",
        region=region,
        path=outline(rle_to_mask(region.mask), width, height),
        mark_x=min(x1, width - MARK_WIDTH),
        mark_y=mark_y(y1) if region.box else y1,
    )


def mark_y(top_px: float) -> float:
    """Where the sign of a region goes: above it where there is room, so that it hides nothing, else inside."""
    return top_px - MARK_HEIGHT if top_px >= MARK_HEIGHT else top_px


def mean_reward(row: DatasetRow) -> float | None:
    """The mean of R_r over planned regions and background, 0..1; None where none of them is scored."""
    rewards = [region.reward for region in row.regions if region.status != "unplanned"] + [row.background_reward]
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known else None


def _placed(defects: Iterable[Defect]) -> tuple[tuple[Defect, str], ...]:
    """Each defect with where it sits, in words."""
    return tuple(
        (defect, "background" if defect.target is None else f"region {defect.target + 1}") for defect in defects
    )


def _dropped(run: Path, rejection: Rejection, pictures: Pictures) -> CandidateView:
    sample: Sample | None = rejection.sample
    if sample is None or sample.candidate is None or sample.edited is None:
        raise ValueError(f"{rejection.key} is a reject without images")
    return CandidateView(
        number=sample.candidate.index + 1,
        picture=pictures.share(sample.candidate.pixels_sha256, read_image_bytes(run, sample.edited))[0],
        editor=sample.candidate.editor,
        regions=(),
        defects=_placed(sample.candidate.defects),
        row=None,
        rejection=rejection,
        mean_reward=None,
    )
