"""The report page: self-contained, true to the run, and nothing untrusted in it is more than text."""

import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build import run_parts, stage_counts
from pipeline.config import BuildConfig
from pipeline.dataset.export import export_dataset
from pipeline.dataset.shards import read_manifest
from pipeline.prepare import prepare_run
from pipeline.report import write_report
from pipeline.report.charts import bars, binned, histogram, score_histogram
from pipeline.report.entries import Entry, choose_requests, choose_shards
from pipeline.report.images import outline
from pipeline.run.workers import workers
from runtime.locks import locked
from schemas.errors import BadInput, DamagedFile
from schemas.manifest import Shard
from tests.cases.hostile_run import BREAK_OUT, INSTRUCTION, RUN_NAME, SCRIPT, build_hostile_run


class Reader(HTMLParser):
    """What a browser would see: tags, attributes, and text by the tag it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def values(self, name: str, tag: str | None = None) -> list[str]:
        return [value for t, n, value in self.attributes if n == name and tag in (None, t)]


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def page(hostile_run: Path) -> str:
    return write_report(hostile_run).read_text(encoding="utf-8")


def test_hostile_text_is_text(page: str) -> None:
    reader = Reader(page)
    assert reader.tags["script"] == reader.tags["style"] == 1
    assert not {"img", "u", "i"} & set(reader.tags)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert any(INSTRUCTION in text for text in reader.texts)
    assert any(f"square {SCRIPT}" in text for text in reader.texts)
    assert any(BREAK_OUT in value for value in reader.values("aria-label"))
    assert "{{ 7*7 }}" in page
    assert RUN_NAME in reader.texts


def test_nothing_outside_is_asked_for(page: str) -> None:
    reader = Reader(page)
    links = reader.values("href") + reader.values("src")
    assert links
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert not {"link", "iframe", "object", "embed"} & set(reader.tags)
    assert not re.search(r"url\(|@import", reader.raw["style"])
    assert not reader.values("style")


def test_the_policy_allows_our_style_and_script_alone(page: str) -> None:
    reader = Reader(page)
    policy = next(value for value in reader.values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        digest = b64encode(sha256(reader.raw[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_each_picture_stands_on_the_page_once(page: str) -> None:
    addresses = [link for link in Reader(page).values("href") if link.startswith("data:")]
    assert len(addresses) == len(set(addresses)) > 20
    uses = Counter(Reader(page).values("href", "use"))
    assert max(uses.values()) > 1
    assert set(uses) == {f"#{name}" for name in Reader(page).values("id", "image")}


def test_the_page_says_what_the_manifest_says(page: str, hostile_run: Path) -> None:
    manifest = read_manifest(hostile_run / "dataset")
    text = " ".join(Reader(page).texts)
    assert "SYNTHETIC" in text
    assert f"showing {manifest.requests} of {manifest.requests}" in text
    assert manifest.build.config_digest in text
    assert f"Edits {manifest.rows}" not in text
    for stage in manifest.stages:
        for reason, count in stage.rejected.items():
            assert f"{reason} {count:,}" in text
            assert f"{stage.stage} · {reason}" in text
    assert Counter(Reader(page).values("data-split", "article")).keys() == {"train", "validation", "test"}
    assert str(hostile_run.parent) not in page


def test_the_same_run_gives_the_same_page(page: str, hostile_run: Path, tmp_path: Path) -> None:
    again = write_report(hostile_run, tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == page


def test_at_most_so_many_requests(hostile_run: Path, tmp_path: Path) -> None:
    reader = Reader(write_report(hostile_run, tmp_path / "few.html", max_requests=3).read_text(encoding="utf-8"))
    assert reader.tags["article"] == 3
    assert len(set(reader.values("data-split", "article"))) == 3


def test_a_run_without_a_dataset_shows_its_funnel(tmp_path: Path) -> None:
    run = tmp_path / "early"
    with locked(run), workers(1) as executor:
        info = prepare_run(run, BuildConfig(scenes=2, scene_size_px=64, k=2))
        run_parts(run, info.n_parts, executor)
    text = write_report(run).read_text(encoding="utf-8")
    assert "No dataset has been exported" in text
    assert 'id="samples"' not in text
    assert f'data-name="kept">{stage_counts(run, info.n_parts)[1].kept}<' in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a run folder"):
        write_report(tmp_path)


def test_a_cut_tar_is_named(small_run: Path) -> None:
    tar = next((small_run / "dataset").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(DamagedFile, match=tar.name):
        write_report(small_run)


def _entry(number: int, edit_type: str, split: str = "train", photo: bool = True, kind: str = "single") -> Entry:
    return Entry(f"k{number}", f"r{number}", split, edit_type, kind, photo, f"s{number}", {})


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(["train", "test"]),
            st.booleans(),
            st.sampled_from(["single", "multi"]),
        ),
        max_size=40,
    ),
    st.integers(8, 20),
)
def test_chosen_requests_show_every_edit_type_split_and_kind(
    facts: list[tuple[str, str, bool, str]], most: int
) -> None:
    entries = [_entry(number, *fact) for number, fact in enumerate(facts)]
    chosen = [found[0] for found in choose_requests(entries, most)]
    assert len(chosen) == min(most, len(entries)) == len({entry.request for entry in chosen})
    for field in ("edit_type", "split", "kind"):
        assert {getattr(entry, field) for entry in chosen} == {getattr(entry, field) for entry in entries}
    assert [entry.photo for entry in chosen] == sorted((entry.photo for entry in chosen), reverse=True)


def test_scenes_keep_a_fifth_of_the_places() -> None:
    entries = [_entry(number, "a", photo=number < 50) for number in range(100)]
    assert sum(not found[0].photo for found in choose_requests(entries, 20)) == 4


def test_all_candidates_of_a_request_stay_together() -> None:
    entries = [_entry(0, "a"), _entry(1, "b"), _entry(0, "a")]
    assert sorted(len(found) for found in choose_requests(entries, 5)) == [1, 2]


def _shard(number: int, split: str, edit_types: dict[str, int]) -> Shard:
    fields = {"requests": 1, "synthetic": 0, "raters": {}, "size_bytes": 1, "sha256": "0" * 64}
    return Shard(name=f"{split}-{number:05d}.tar", split=split, samples=1000, edit_types=edit_types, **fields)


def test_shards_are_read_in_part_but_every_split_and_edit_type_is_among_them() -> None:
    shards = [_shard(number, "train", {"a": 1000}) for number in range(1000)]
    shards[777] = _shard(777, "train", {"rare": 1, "a": 999})
    shards.append(_shard(0, "test", {"a": 1000}))
    chosen = choose_shards(shards, rows=20_000)
    assert 20 <= len(chosen) <= 23
    assert {"train-00777.tar", "test-00000.tar"} <= {shard.name for shard in chosen}
    assert choose_shards(shards[:20], rows=20_000) == shards[:20]


def _area(path: str) -> float:
    """The area that path data encloses, in px: the largest outlines minus the holes (even-odd, holes listed apart)."""
    total = 0.0
    for closed in path.removesuffix("z").split("z"):
        numbers = [float(number) for number in re.findall(r"-?\d+", closed)]
        points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
        x, y = points[:, 0], points[:, 1]
        total += (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return abs(total) / 4


def test_an_outline_encloses_its_mask() -> None:
    mask = np.zeros((60, 80), dtype=np.bool_)
    mask[10:40, 20:70] = True
    assert _area(outline(mask, 80, 60)) == pytest.approx(30 * 50, rel=0.03)
    mask[20:30, 30:50] = False
    assert _area(outline(mask, 80, 60)) == pytest.approx(30 * 50 - 10 * 20, rel=0.05)
    assert _area(outline(mask, 40, 30)) == pytest.approx((30 * 50 - 10 * 20) / 4, rel=0.1)
    assert outline(np.zeros((5, 5), dtype=np.bool_), 5, 5) == ""


def test_a_line_one_pixel_wide_still_has_an_outline() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    mask[4, 1:8] = True
    assert _area(outline(mask, 9, 9)) > 2


def test_histograms_count_every_value_once() -> None:
    titles = re.findall(r"<title>(.*?)</title>", score_histogram([0, 0.4, 24.6, 25, 25], 25, "score"))
    assert len(titles) == 26
    assert (titles[0], titles[24], titles[25]) == ("0: 2", "24: 0", "25: 3")
    titles = re.findall(r"<title>(.*?)</title>", histogram([0, 0.05, 0.1, 0.95, 1.0], 0, 1, 10, "reward"))
    assert (titles[0], titles[1], titles[9]) == ("0 to 0.1: 2", "0.1 to 0.2: 1", "0.9 to 1: 2")
    titles = re.findall(r"<title>(.*?)</title>", binned([0.1, 0.3, 5, 99, 100], (0, 0.3, 10, 100), "%"))
    assert titles == ["0 to 0.3: 1", "0.3 to 10: 2", "10 to 100: 2"]


def test_names_in_charts_are_escaped_and_cut() -> None:
    svg = str(bars({f"{SCRIPT} and a long name": 3, "b": 0}, "rows"))
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert "…" in svg


def test_a_request_of_many_candidates_shows_the_first_dozen_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "many"
    with locked(run), workers(1) as executor:
        info = prepare_run(run, BuildConfig(scenes=1, scene_size_px=64, k=13))
        run_parts(run, info.n_parts, executor)
        export_dataset(run, executor)
    reader = Reader(write_report(run).read_text(encoding="utf-8"))
    assert sum(value.startswith("candidate") for value in reader.values("class", "figure")) == 12
    assert "showing 12 of 13 candidates" in reader.texts
