"""Benchmarks of an editing policy: a folder of multi-region requests, and what scoring a policy's edits found.

`benchmark.json`   MultiEditBenchmark, written last, beside its `sources/`
`evaluation.json`  PolicyEvaluation: a policy's held-out figures at its start and at its end

A score that was not given is missing: counted, never imputed. Intervals are 95 %, bootstrap over source images.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.geometry import CocoRle
from schemas.record import Document, Id, Record, Sha256
from schemas.request import EditRequest, ExternalName, Instruction, Label
from schemas.reward import Share
from schemas.score import MeanScore

Count = Annotated[int, Field(ge=0)]
SourcePath = Annotated[str, Field(pattern=r"^sources/[0-9a-f]{64}\.png$")]
#: GEdit's scores run from 0 to 10, ImgEdit's from 1 to 5.
TenPoints = Annotated[float, Field(ge=0, le=10)]
FivePoints = Annotated[float, Field(ge=1, le=5)]


class Interval(Record):
    """A figure with its 95 % interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


class PlannedMask(Record):
    """One planned region of a request with its place on the source. mask: what its edit means to change."""

    region: Id
    label: Label
    mask: CocoRle


class MultiEditItem(Record):
    """One request with two planned regions or more. source: its PNG, a path in the benchmark's folder.

    source_sha256: of the file's bytes. group: the source image before scaling, the unit of the bootstrap.
    oracle: whether the procedural editor can carry it out, so that the pixel oracle knows what was wanted.
    """

    request: EditRequest
    source: SourcePath
    source_sha256: Sha256
    group: Sha256
    oracle: bool
    regions: Annotated[tuple[PlannedMask, ...], Field(min_length=2, max_length=64)]


class MultiEditBenchmark(Document):
    """The manifest of a benchmark folder. synthetic: how many of its items were drawn by a program."""

    schema_name: ClassVar[str] = "multi-edit-benchmark"

    name: ExternalName
    synthetic: Count
    items: Annotated[tuple[MultiEditItem, ...], Field(min_length=1, max_length=100_000)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        ids = [item.request.id for item in self.items]
        if len(set(ids)) < len(ids):
            raise ValueError("items: has one request more than once")
        return self


class RegionResult(Record):
    """One region of one edit. phi: 0..25; reward: R_r in [0, 1]."""

    region: Id
    phi: MeanScore
    reward: Share | None


class MultiEditAnswer(Record):
    """What the scorer said of one edit. edited: False where there is no edited image, then every score is missing."""

    request: Id
    group: Sha256
    edited: bool
    regions: tuple[RegionResult, ...]
    background: MeanScore


class MultiEditFigures(Record):
    """Figures over some items; every region counts alike, every request counts alike.

    region_right: share of regions with phi >= the bar. region_reward: mean R_r; region_phi: mean phi_r / 25.
    all_right: share of requests with every region right. background: mean score, 0..25; background_right: share of
    requests whose background reaches the bar. n_known: regions, requests and backgrounds that the figures rest on.
    """

    n_items: Count
    n_regions: Count
    n_known_regions: Count
    n_known_items: Count
    n_known_backgrounds: Count
    region_right: Interval
    region_reward: Interval
    region_phi: Interval
    all_right: Interval
    background: Interval
    background_right: Interval


class MultiEditResult(Document):
    """One policy on one benchmark. by_regions: the figures by number of planned regions.

    benchmark_sha256: of the manifest's bytes. right_from: phi from which a region is right. coverage: share of the
    scores asked for that were given; missing: which were not; not_edited: requests without an edited image.
    synthetic: whether benchmark or scorer is a stand-in made by a program.
    """

    schema_name: ClassVar[str] = "multi-edit-result"

    benchmark: ExternalName
    benchmark_sha256: Sha256
    policy: str
    scorer: str
    synthetic: bool
    right_from: float
    overall: MultiEditFigures
    by_regions: dict[int, MultiEditFigures]
    coverage: Share | None
    missing: dict[str, int]
    not_edited: Count
    bootstrap_samples: Count
    answers: tuple[MultiEditAnswer, ...]


class PairedFigure(Record):
    """One figure of two policies on the same edits, and the difference second less first. n: pairs that it rests on."""

    what: Literal["region_reward", "region_phi", "region_right", "all_right", "background"]
    first: Interval
    second: Interval
    difference: Interval
    n: Count


class PolicyEvaluation(Document):
    """`evaluation.json`: a policy's held-out figures at its start (first) and at its end (second)."""

    schema_name: ClassVar[str] = "policy-evaluation"

    first: str
    second: str
    benchmark: ExternalName
    scorer: str
    synthetic: bool
    right_from: float
    figures: tuple[PairedFigure, ...]
    n_requests: Count
    bootstrap_samples: Count


class GeditAnswer(Record):
    """One item, judged. semantics: SC; quality: PQ; overall: sqrt(SC * PQ), each 0..10 or missing."""

    key: str
    task: str
    language: str
    group: Sha256
    intersection: bool
    semantics: TenPoints | None
    quality: TenPoints | None
    overall: TenPoints | None


class GeditFigures(Record):
    """Means over items: SC, PQ and O, 0..10. n: items that were judged; n_items: items asked for."""

    n_items: Count
    n: Count
    semantics: Interval
    quality: Interval
    overall: Interval


class JudgeCoverage(Record):
    """What a judge gave. coverage: share of the items with all their scores; missing: reason -> items.

    entropy_bits: of the single scores it gave; 0 says that it always gave the same. not_edited: items without an
    edited image.
    """

    judge: str
    synthetic: bool
    coverage: Share | None
    missing: dict[str, int]
    not_edited: Count
    entropy_bits: float | None


class GeditResult(Document):
    """A policy on GEdit-Bench in one language. overall: mean over the 11 tasks, missing where one has no score.

    intersection: the same over the items that the benchmark marks `Intersection_exist`.
    """

    schema_name: ClassVar[str] = "gedit-result"

    policy: str
    language: str
    report: JudgeCoverage
    overall: GeditFigures
    intersection: GeditFigures
    tasks: dict[str, GeditFigures]
    tasks_missing: tuple[str, ...]
    bootstrap_samples: Count
    answers: tuple[GeditAnswer, ...]


class ImgeditAnswer(Record):
    """One item, judged: three scores 1..5 in the judge's order, and their mean; missing unless all three are there."""

    key: str
    edit_type: str
    group: str
    instruction: Instruction
    scores: tuple[FivePoints, FivePoints, FivePoints] | None
    mean: FivePoints | None


class ImgeditFigures(Record):
    """The mean of the items' means, 1..5. official: as the published scripts round it, to two places twice."""

    n_items: Count
    n: Count
    mean: Interval
    official: float | None


class ImgeditResult(Document):
    """A policy on ImgEdit-Bench basic. overall: mean over edit types; per_item: mean over items.

    over_first: judged items whose second or third score exceeds the first, which the judge's prompt asks not to do.
    """

    schema_name: ClassVar[str] = "imgedit-result"

    policy: str
    report: JudgeCoverage
    overall: Interval
    per_item: Interval
    types: dict[str, ImgeditFigures]
    over_first: Count
    bootstrap_samples: Count
    answers: tuple[ImgeditAnswer, ...]
