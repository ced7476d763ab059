"""Splits never share a source, shards never split a request, and repeats are left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import BuildConfig, SplitShares
from pipeline.dataset.asked import asks_the_same
from pipeline.dataset.export import read_dropped
from pipeline.dataset.plan import assign_splits, cut_shards, drop_repeated_requests, drop_same_edits, source_clusters
from pipeline.dataset.shards import read_manifest
from pipeline.gates.duplicates import perceptual_hash
from runtime.masks import mask_to_rle
from schemas.record import short_hash
from schemas.request import EditRequest
from tests.cases.builds import build
from tests.cases.examples import few_examples

_RNG = np.random.default_rng(5)
HASHES = [perceptual_hash(_RNG.integers(0, 255, (64, 64, 3), dtype=np.uint8)).hex() for _ in range(12)]


def _rows(*rows: dict[str, Any]) -> pd.DataFrame:
    plain = {"part": 0, "split": None, "source_group": None, "instruction": "i", "name": "n", "edited_fingerprint": ""}
    frame = pd.DataFrame([plain | {"key": f"{row['request']}-{n}"} | row for n, row in enumerate(rows)])
    return frame.assign(
        edited_fingerprint=[HASHES[n % 12] if not h else h for n, h in enumerate(frame["edited_fingerprint"])]
    )


def test_requests_that_share_a_source_a_group_or_a_near_duplicate_are_one_cluster() -> None:
    rows = _rows(
        {"request": "a", "sources": ["s1"], "source_fingerprint": HASHES[0]},
        {"request": "b", "sources": ["s2", "s1"], "source_fingerprint": HASHES[1]},  # shares s1 with a
        {"request": "c", "sources": ["s3"], "source_fingerprint": HASHES[1]},  # looks like b
        {"request": "d", "sources": ["s4"], "source_fingerprint": HASHES[2], "source_group": "film"},
        {"request": "e", "sources": ["s5"], "source_fingerprint": HASHES[3], "source_group": "film"},
        {"request": "f", "sources": ["s6"], "source_fingerprint": HASHES[4]},
    )
    clusters = source_clusters(rows)
    found = clusters["source_cluster"].to_dict()
    assert [clusters["canvas"]["b"] == clusters["canvas"][name] for name in "acde"] == [False, True, False, False]
    assert len({found[name] for name in "abc"}) == 1
    assert found["d"] == found["e"]
    assert len({found["a"], found["d"], found["f"]}) == 3


def test_the_same_instruction_on_a_copy_of_a_source_is_left_out() -> None:
    rows = _rows(
        {"request": "a", "canvas": "x"},
        {"request": "a", "canvas": "x"},
        {"request": "b", "canvas": "x", "part": 1},
        {"request": "c", "canvas": "x", "instruction": "another"},
        {"request": "d", "canvas": "y"},
    )
    read: list[set[str]] = []

    def requests(part: int, ids: set[str]) -> dict[str, EditRequest]:
        read.append(ids)
        return {name: _request(name) for name in ids}

    kept, dropped = drop_repeated_requests(rows, requests)
    assert read == [{"a"}, {"b"}]
    assert kept["request"].tolist() == ["a", "a", "c", "d"]
    assert [(drop.key, drop.reason, drop.same_as) for drop in dropped] == [
        ("b-2", "duplicate_request", short_hash("a"))
    ]


CUP = {"label": "cup", "box": [10, 10, 50, 50]}
#: As `CUP`, of a copy twice as large, a few pixels off.
CUP_TWICE = CUP | {"label": "Cup", "box": [22, 20, 104, 98]}


def _request(name: str, targets: Sequence[dict[str, Any]] = (), size_px: int = 100, other: str = "") -> EditRequest:
    digests = [HASHES[0] * 8, *([other] if other else [])]
    source = {"name": "a.png", "pixels_sha256": "0" * 64, "width_px": size_px, "height_px": size_px}
    return EditRequest(
        id=short_hash(name),
        name=name,
        kind="composition" if other else "single",
        sources=[source | {"origin_sha256": digest[:64]} for digest in digests],
        instruction="Make it red",
        targets=list(targets),
        edit_type="other",
        synthetic=False,
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"targets": [CUP]}, {"targets": [CUP]}, True),
        ({"targets": [CUP]}, {"targets": [CUP_TWICE], "size_px": 200}, True),
        ({"targets": [CUP]}, {"targets": [CUP_TWICE]}, False),
        ({"targets": [CUP]}, {"targets": [CUP | {"box": [60, 60, 99, 99]}]}, False),
        ({"targets": [CUP]}, {"targets": [CUP | {"label": "spoon"}]}, False),
        ({"targets": [CUP]}, {"targets": [CUP | {"operation": "remove"}]}, False),
        ({"targets": [CUP]}, {"targets": [CUP | {"parameters": {"color": "red"}}]}, False),
        ({"targets": [CUP]}, {"targets": [CUP | {"destination": [60, 60, 99, 99]}]}, False),
        ({"targets": [CUP]}, {"targets": [{"label": "cup"}]}, False),
        ({"targets": [CUP]}, {"targets": [CUP, CUP]}, False),
        ({"other": "1" * 64}, {"other": "1" * 64}, True),
        ({"other": "1" * 64}, {"other": "2" * 64}, False),
        (
            {"other": "1" * 64, "targets": [CUP | {"reference": {"source": 1, "box": [0, 0, 9, 9]}}]},
            {"other": "1" * 64, "targets": [CUP | {"reference": {"source": 1, "box": [20, 20, 40, 40]}}]},
            False,
        ),
    ],
)
def test_what_is_asked_is_instruction_targets_and_other_sources(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    first, second = _request("one", **one), _request("other", **other)
    assert asks_the_same(first, second) == asks_the_same(second, first) == same


def test_a_mask_says_its_place_where_there_is_no_box() -> None:
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[10:50, 10:50] = True
    masked = {"label": "cup", "mask": mask_to_rle(mask).model_dump(mode="json")}
    assert asks_the_same(_request("one", [CUP]), _request("other", [masked]))
    elsewhere = masked | {"mask": mask_to_rle(mask[::-1]).model_dump(mode="json")}
    assert not asks_the_same(_request("one", [CUP]), _request("other", [elsewhere]))


def test_requests_of_one_photograph_for_other_boxes_are_all_exported(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    photo = np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(photo).resize((192, 192)).save(tmp_path / "copy.png")
    boxes = {"left": [12, 12, 36, 36], "right": [60, 60, 84, 84]}
    target = {"label": "cup", "operation": "recolour", "parameters": {"color": "red"}}
    line = {"sources": ["a.png"], "instruction": "Make the cup red"}
    lines = [line | {"id": name, "targets": [target | {"box": box}]} for name, box in boxes.items()]
    again = {"id": "again", "sources": ["copy.png"], "targets": [target | {"box": [24, 24, 72, 73]}]}
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*lines, line | again]))
    build(tmp_path / "run", BuildConfig(requests=(str(tmp_path / "r.jsonl"),), size_px=96, k=1, part_requests=2))
    assert read_manifest(tmp_path / "run" / "dataset").requests == 2
    assert [(drop.name, drop.reason) for drop in read_dropped(tmp_path / "run")] == [("again", "duplicate_request")]


def test_the_same_edit_of_different_sources_is_left_out() -> None:
    rows = _rows(
        {"request": "a", "source_cluster": "x", "edited_fingerprint": HASHES[0]},
        {"request": "b", "source_cluster": "x", "edited_fingerprint": HASHES[0]},
        {"request": "c", "source_cluster": "y", "edited_fingerprint": HASHES[0]},
        {"request": "d", "source_cluster": "y", "edited_fingerprint": HASHES[1]},
    )
    kept, dropped = drop_same_edits(rows)
    assert kept["request"].tolist() == ["a", "b", "d"]
    assert [(drop.key, drop.reason, drop.same_as) for drop in dropped] == [("c-2", "duplicate_across_sources", "a-0")]


def test_split_shares_are_met_and_do_not_depend_on_other_sources() -> None:
    rows = pd.DataFrame({"source_cluster": [f"{n:016x}" for n in range(4_000)], "split": None})
    splits = assign_splits(rows, SplitShares(), seed=1)
    shares = pd.Series(splits).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.03)
    assert shares["test"] == pytest.approx(0.1, abs=0.02)
    few = assign_splits(rows[rows.index % 3 == 0], SplitShares(), seed=1)
    assert all(splits[name] == split for name, split in few.items())


def test_a_wished_split_holds_for_the_whole_cluster_and_test_wins() -> None:
    rows = pd.DataFrame({"source_cluster": ["a", "a", "b", "b"], "split": ["train", "test", "validation", None]})
    assert assign_splits(rows, SplitShares(), seed=0) == {"a": "test", "b": "validation"}


@few_examples
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=30), st.integers(1, 9))
def test_shards_hold_every_key_once_and_whole_requests(requests: list[tuple[int, int]], shard_samples: int) -> None:
    rows = pd.DataFrame(
        [
            {"key": f"{number}-{k}", "request": str(number), "part": number // 4, "source_cluster": str(source)}
            for number, (source, count) in enumerate(requests)
            for k in range(count)
        ]
    )
    splits = {"0": "train", "1": "test", "2": "train", "3": "validation"}
    shards = list(cut_shards(rows, splits, shard_samples))
    keys = [key for shard in shards for _, found in shard.keys for key in found]
    assert sorted(keys) == sorted(rows["key"])
    home = {key.partition("-")[0]: set() for key in keys}
    for shard in shards:
        for _, found in shard.keys:
            for key in found:
                home[key.partition("-")[0]].add(shard.name)
                assert shard.name.startswith(splits[str(requests[int(key.partition("-")[0])][0])])
        largest = max(len(found) for _, found in rows.groupby("request"))
        assert shard.samples <= max(shard_samples, largest)
    assert all(len(names) == 1 for names in home.values())
