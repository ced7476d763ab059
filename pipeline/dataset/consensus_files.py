"""The consensus of a run on disk, read by its schema: `<run>/consensus/<snapshot>/part-NNNNN.parquet`, done-file last.

A part holds the candidates that the gates kept in the same part of the run, in the same order; a candidate that nobody
rated has no row. How a consensus is made is not known here.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.run.folder import digest_of, is_whole, part_name, read_done, write_done
from runtime.files import whole_file
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput, DamagedFile
from schemas.manifest import PartDone
from schemas.record import canonical_json
from schemas.score import Consensus

#: How far the raters of a snapshot agree (`schemas.agreement`), beside its parts.
AGREEMENT_FILE = "agreement.json"
#: How a snapshot's raters ranked requests, one `schemas.ranking.RankingConsensus` a line; none where nobody did.
RANKINGS_FILE = "rankings.jsonl"
SCHEMA = pa.schema(
    [("candidate", pa.string()), ("snapshot", pa.string()), ("synthetic", pa.bool_()), ("record", pa.string())],
    metadata={"schema": "consensus-rows/1"},
)


def consensus_stage(snapshot: str) -> str:
    """The folder of a snapshot's consensus, relative to the run: its name as a stage."""
    return f"consensus/{snapshot}"


def write_consensus(run: Path, snapshot: str, part: int, rows: Sequence[Consensus], n_candidates: int) -> PartDone:
    """Writes a part, whole or not at all, unless it is there with the same rows. n_candidates: how many it could have.

    Returns: its done-record; rejected counts, as `not_rated`, the candidates without a row.
    """
    stage = consensus_stage(snapshot)
    path = run / stage / f"{part_name(part)}.parquet"
    records = [row.model_dump_json() for row in rows]
    digest = sha256(canonical_json([str(SCHEMA.metadata), n_candidates, records])).hexdigest()
    before = read_done(run, stage, part)
    if before and before.input_digest == digest and is_whole(run, before.files):
        return before
    columns = [
        [row.candidate for row in rows],
        [row.snapshot for row in rows],
        [row.synthetic for row in rows],
        records,
    ]
    with whole_file(path) as file:
        pq.write_table(pa.table(columns, schema=SCHEMA), file, compression="zstd")
    unrated = n_candidates - len(rows)
    done = PartDone(
        stage=stage,
        part=part,
        input_digest=digest,
        files=(digest_of(run, path),),
        rows_in=n_candidates,
        kept=len(rows),
        rejected={"not_rated": unrated} if unrated else {},
        seconds=0,
        attempts=1,
    )
    return write_done(run, done)


def consensus_digests(run: Path, snapshot: str, n_parts: int) -> list[str]:
    """sha256 of every part's file, in order.

    Raises: BadInput where the snapshot has no whole consensus, DamagedFile for a part that is not as it was written.
    """
    remedy = f"run `regionwise consensus --run {run} --snapshot {snapshot}`"
    digests = []
    for part in range(n_parts):
        done = read_done(run, consensus_stage(snapshot), part)
        if done is None:
            raise BadInput(str(run), f"has no whole consensus of snapshot {snapshot}", remedy)
        if not is_whole(run, done.files):
            raise DamagedFile(str(run / done.files[0].path), "is not as it was written", remedy)
        digests.append(done.files[0].sha256)
    return digests


def read_consensus(run: Path, snapshot: str, part: int) -> dict[str, Consensus]:
    """A part's consensus by candidate. Raises: DamagedFile."""
    path = run / consensus_stage(snapshot) / f"{part_name(part)}.parquet"
    try:
        records = pq.read_table(path, columns=["record"])["record"].to_pylist()
    except (OSError, pa.ArrowException) as error:
        if is_out_of_memory(error):
            raise
        fault = f"cannot be read: {type(error).__name__}"
        raise DamagedFile(str(path), fault, "run `regionwise consensus` again") from None
    rows = [Consensus.from_json(record, thing=str(path)) for record in records]
    return {row.candidate: row for row in rows}
