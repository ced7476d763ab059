"""What says that something is whole: done-files of parts, the dataset's manifest, and how a build came to be."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.record import UPGRADES, Document, Record, Scalar, Sha256
from schemas.request import Split

Count = Annotated[int, Field(ge=0, le=10**12)]
Reason = Annotated[str, Field(pattern="^[a-z0-9_]{1,100}$")]
MemberName = Annotated[str, Field(pattern=r"^[a-z0-9.]{1,40}$")]
ShardName = Annotated[str, Field(pattern=r"^(train|validation|test)-\d{5}\.tar$")]


class FileDigest(Record):
    """One file that a part wrote. path: relative to the run folder."""

    path: str
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class PartDone(Document):
    """Written last: a part without it does not exist.

    input_digest: over settings, code version and the done-files it was made from. attempts: how often it was begun.
    digest: over all the rest of the file; earlier versions wrote none.
    """

    schema_name: ClassVar[str] = "part-done"

    stage: Annotated[str, Field(pattern="^[A-Za-z0-9_./-]{1,200}$")]
    part: Annotated[int, Field(ge=0)]
    input_digest: Sha256
    files: tuple[FileDigest, ...]
    rows_in: Count
    kept: Count
    rejected: dict[Reason, Count]
    seconds: Annotated[float, Field(ge=0)]
    attempts: Annotated[int, Field(ge=1)]
    digest: Sha256 | None = None


class BuildInfo(Document):
    """How a build came to be: `run.json`. Times, host and commit stand here and in manifests, never in tars.

    plan: sha256 over the parts of the plan. digest: over all the rest of `run.json`; none in manifests. Earlier
    versions wrote neither.
    """

    schema_name: ClassVar[str] = "build-info"

    name: str
    config: dict[str, Any]
    config_digest: Sha256
    seeds: dict[str, int]
    model_revisions: dict[str, str | None]
    inputs: dict[str, Sha256]
    n_parts: Annotated[int, Field(ge=0)]
    parents: tuple[str, ...] = ()
    commit: str | None
    created_at: str
    host: str
    packages: dict[str, str]
    plan: Sha256 | None = None
    digest: Sha256 | None = None


class ModelFile(Record):
    """One file that a model's answers come from. name: below the model's place; path: where it lay.

    size_bytes, mtime_ns, inode: what the file system said when the file was hashed.
    """

    name: str
    path: str
    size_bytes: Annotated[int, Field(ge=0)]
    mtime_ns: int
    inode: Annotated[int, Field(ge=0)]
    sha256: Sha256


class ModelIdentity(Record):
    """Which model it is: its files, and the settings that its answers depend on, never where or how fast it runs."""

    name: str
    settings: dict[str, Scalar]
    files: tuple[ModelFile, ...]


class ModelFiles(Document):
    """The models of a build by their role (detector, outliner, editor): `model_files.json`, so that what is hashed
    once is not hashed again."""

    schema_name: ClassVar[str] = "model-files"

    models: dict[str, ModelIdentity]


class Shard(Record):
    """One tar of the dataset, complete only if size, sha256 and samples all fit.

    raters: samples by who scored them; unscored: samples that nobody scored, all their scores are missing. members:
    what samples consist of, as `source.png`; empty in manifests from before they were noted.
    """

    name: ShardName
    split: Split
    samples: Annotated[int, Field(gt=0)]
    requests: Annotated[int, Field(gt=0)]
    synthetic: Annotated[int, Field(ge=0)]
    edit_types: dict[str, int]
    raters: dict[str, int]
    unscored: Annotated[int, Field(ge=0)] = 0
    members: tuple[MemberName, ...] = ()
    size_bytes: Annotated[int, Field(gt=0)]
    sha256: Sha256


class StageCount(Record):
    """What one stage kept and why it dropped the rest, over all parts."""

    stage: Reason
    rows_in: Count
    kept: Count
    rejected: dict[Reason, Count]


class Manifest(Document):
    """The dataset's `manifest.json`, written last: its shards, its counts, and where it came from.

    card_sha256: of `README.md`. digest: over all the rest (`pipeline.dataset.manifest`). Version 1 has neither.
    scores: where the rows' scores come from: `rows` (what the run's rows carry), `oracle` or `consensus:SNAPSHOT`.
    """

    schema_name: ClassVar[str] = "manifest"
    schema_version: ClassVar[int] = 2

    dataset: str
    row_schema: str
    shards: tuple[Shard, ...]
    rows: Annotated[int, Field(ge=0)]
    requests: Annotated[int, Field(ge=0)]
    splits: dict[Split, int]
    edit_types: dict[str, int]
    raters: dict[str, int]
    unscored: Annotated[int, Field(ge=0)] = 0
    scores: str = "rows"
    stages: tuple[StageCount, ...]
    synthetic: Literal["all", "some", "none"]
    build: BuildInfo
    created_at: str
    card_sha256: Sha256 | None = None
    digest: Sha256 | None = None


#: Version 2 names the members of samples and has the digests of the card and of itself.
UPGRADES["manifest", 1] = dict
