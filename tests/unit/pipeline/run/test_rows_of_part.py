"""A part's rows in Parquet: a small part has the bytes that it always had, a large one comes in pieces."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.run import folder
from pipeline.run.folder import ROW_SCHEMA, read_rows, rows_path, write_rows
from schemas.errors import DamagedFile
from schemas.sample import Rejection


def _rows(count: int) -> list[Rejection]:
    return [
        Rejection(key=f"r{number}", name=f"r{number}", stage="requests", reason="odd", detail="x" * 90)
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 70])
def test_a_part_of_one_group_has_the_bytes_of_a_table_written_whole(tmp_path: Path, count: int) -> None:
    write_rows(tmp_path / "rows.parquet", iter(_rows(count)))
    columns = [folder._columns(row) for row in _rows(count)]
    pq.write_table(pa.Table.from_pylist(columns, schema=ROW_SCHEMA), tmp_path / "whole.parquet", compression="zstd")
    assert (tmp_path / "rows.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_large_part_is_written_in_groups_and_read_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "GROUP_CHARS", 2_000)
    path = rows_path(tmp_path, "requests", 0)
    write_rows(path, iter(_rows(70)))
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert sum(sizes) == 70
    assert max(sizes) <= 12
    assert list(read_rows(tmp_path, "requests", 0)) == _rows(70)


def test_rows_that_are_cut_off_are_damaged_and_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_path(tmp_path, "requests", 0)
    write_rows(path, _rows(70))

    def no_memory(*_: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    with monkeypatch.context() as patched:
        patched.setattr(folder.pq, "ParquetFile", no_memory)
        with pytest.raises(MemoryError):
            list(read_rows(tmp_path, "requests", 0))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedFile, match="cannot be read"):
        list(read_rows(tmp_path, "requests", 0))
