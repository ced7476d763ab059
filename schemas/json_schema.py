"""Writes `docs/schemas/NAME.json` for every document, or with `--check` says which are not current."""

import json
import sys
from pathlib import Path
from typing import Any

from schemas.agreement import Agreement
from schemas.candidate import Candidate
from schemas.dataset_row import DatasetRow
from schemas.edit_benchmarks import GeditResult, ImgeditResult, MultiEditBenchmark, MultiEditResult, PolicyEvaluation
from schemas.errors import BadInput, RegionwiseError
from schemas.manifest import BuildInfo, Manifest, ModelFiles, PartDone
from schemas.ranking import Ranking, RankingConsensus
from schemas.record import Document
from schemas.request import EditRequest, RequestLine
from schemas.reward import RewardExample, RewardMetrics, ScoredPair, ScoreLine, TrainingCurves
from schemas.sample import Rejection, Sample
from schemas.score import Annotation, CandidateScore, Consensus

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
DOCUMENTS: tuple[type[Document], ...] = (
    RequestLine,
    EditRequest,
    Candidate,
    CandidateScore,
    Annotation,
    Consensus,
    Ranking,
    RankingConsensus,
    Agreement,
    Sample,
    Rejection,
    DatasetRow,
    PartDone,
    BuildInfo,
    ModelFiles,
    Manifest,
    ScoreLine,
    ScoredPair,
    TrainingCurves,
    RewardMetrics,
    RewardExample,
    MultiEditBenchmark,
    MultiEditResult,
    PolicyEvaluation,
    GeditResult,
    ImgeditResult,
)


def json_schema(document: type[Document]) -> dict[str, Any]:
    """The JSON Schema of a document as it is read, with its `schema: name/version` field."""
    schema = document.model_json_schema(mode="validation")
    version = f"{document.schema_name}/{document.schema_version}"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] = {"schema": {"const": version, "title": "Schema"}, **schema["properties"]}
    for kind in DOCUMENTS:
        inner = schema.get("$defs", {}).get(kind.__name__)
        if inner:
            name = f"{kind.schema_name}/{kind.schema_version}"
            inner["properties"] = {"schema": {"const": name, "title": "Schema"}, **inner["properties"]}
    return schema


def files() -> dict[Path, str]:
    """Every schema file's place and text."""
    return {
        FOLDER / f"{document.schema_name}.json": json.dumps(json_schema(document), indent=1) + "\n"
        for document in DOCUMENTS
    }


def main(arguments: list[str]) -> int:
    """Writes the files, or with `--check` fails where one is not current."""
    stale = [path for path, text in files().items() if not path.is_file() or path.read_text() != text]
    if "--check" not in arguments:
        for path, text in files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0
    if stale:
        names = ", ".join(path.name for path in stale)
        raise BadInput("docs/schemas", f"is not current: {names}", "run `make schemas`")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RegionwiseError as error:
        sys.exit(str(error))
