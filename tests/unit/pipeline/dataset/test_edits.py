"""A few edits of `make edits`: kinds of every sort, each found and mended."""

from pathlib import Path

from tests.edits.run import EDITS, EXPECTED, FOUND, TOLD, Grounds, tried

#: Every fourth kind, each once.
KINDS = EDITS[::4]


def test_edits_of_every_sort_are_found_and_mended_byte_for_byte(tmp_path: Path) -> None:
    outcomes = list(tried(Grounds(tmp_path.resolve()), KINDS, seed=2, count=len(KINDS)))
    assert [one for one in outcomes if not one.held] == []
    assert {one.verify for one in outcomes} == {FOUND, EXPECTED}
    assert TOLD in {one.repair for one in outcomes}
