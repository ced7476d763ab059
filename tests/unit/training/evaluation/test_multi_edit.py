"""The multi-region benchmark: a folder that is checked, figures worked out by hand, missing scores left out."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.editors.procedural import ProceduralEditor
from runtime.images import ImageU8, encode_image
from schemas.candidate import Defect
from schemas.edit_benchmarks import MultiEditResult, PolicyEvaluation
from schemas.errors import BadInput
from tests.cases.editor_cases import block_target, disc_target, picture, request_of
from tests.cases.reward_cases import Constant, prediction
from training.evaluation.multi_edit import RIGHT_FROM, compare, score_edits
from training.evaluation.multi_edit_items import (
    Benchmark,
    Item,
    build_benchmark,
    planned_masks,
    read_benchmark,
    run_requests,
    scene_requests,
)
from training.evaluation.multi_edit_scorers import OracleScorer, RewardScorer
from training.reward_protocol import Prediction

N = 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multi") / "bench"
    build_benchmark(folder, "scenes", scene_requests(64), N)
    return folder


@pytest.fixture
def benchmark(built: Path) -> Benchmark:
    return read_benchmark(built)


class Told:
    """Scores that a test gives: request id -> (phi of each region, background, naturalness)."""

    name, synthetic = "told", False

    def __init__(self, scores: dict[str, tuple[list[float | None], float | None, float | None]]) -> None:
        self._scores = scores

    def score(self, items: Sequence[Item], edited: Sequence[ImageU8]) -> list[Prediction]:
        found = []
        for item in items:
            phi, background, naturalness = self._scores[item.id]
            regions = dict(zip(item.masks, phi, strict=True))
            found.append(prediction(regions, background, (25.0, 25.0, naturalness, 25.0)))
        return found


def unchanged(item: Item) -> ImageU8:
    return item.source


def wanted(item: Item) -> ImageU8:
    return ProceduralEditor().wanted(item.record.request, [item.source])


def two_items(tmp_path: Path) -> Benchmark:
    """Two requests of two regions each, on sources of their own."""
    targets = (disc_target(parameters={"color": "green"}), block_target("remove", role="remove"))
    images = [picture(), picture()[::-1].copy()]
    requests = [(request_of(targets, [image]), [image]) for image in images]
    return build_benchmark(tmp_path / "two", "two", requests, 9)


def test_a_benchmark_holds_requests_of_several_regions(benchmark: Benchmark) -> None:
    items = list(benchmark.items())
    assert len(items) == N
    for item in items:
        assert len(item.masks) == len(item.record.request.targets) >= 2
        assert all(mask.shape == (64, 64) and mask.any() for mask in item.masks.values())
        assert item.record.oracle
        assert list(item.masks) == [region.region for region in item.record.regions]
        exact = ProceduralEditor().region_masks(item.record.request, [item.source])
        assert all((exact[key] == mask).all() for key, mask in item.masks.items())


def test_the_same_requests_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build_benchmark(tmp_path / "again", "scenes", scene_requests(64), N)
    files = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert len(files) == N + 1
    for file in files:
        assert (built / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_another_benchmark_is_not_written_over(built: Path) -> None:
    with pytest.raises(BadInput, match="is another benchmark"):
        build_benchmark(built, "scenes", scene_requests(64), N - 1)
    with pytest.raises(BadInput, match="items: are 0"):
        build_benchmark(built, "scenes", [], 0)


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    one = request_of((disc_target(),), [picture()])
    turns = request_of(
        (disc_target(), block_target(turn=1)), [picture()], kind="multi_turn", turns=("Do one.", "Do two.")
    )
    nowhere = request_of((disc_target(box=None, mask=None), block_target()), [picture()])
    with pytest.raises(BadInput, match="no request with two regions"):
        build_benchmark(tmp_path / "b", "none", [(one, [picture()]), (turns, [picture()]), (nowhere, [picture()])])
    assert not (tmp_path / "b" / "benchmark.json").exists()


def test_what_the_editor_cannot_do_has_the_targets_places(tmp_path: Path) -> None:
    targets = (disc_target("other", destination=(60, 10, 90, 40)), block_target("other"))
    request = request_of(targets, [picture()])
    masks, oracle = planned_masks(request, [picture()])
    first = next(iter(masks.values()))
    assert not oracle
    assert first[12:38, 62:88].all()
    assert first[31, 29]
    benchmark = build_benchmark(tmp_path / "b", "other", [(request, [picture()])])
    with pytest.raises(BadInput, match="nothing that the pixel oracle knows"):
        score_edits(benchmark, unchanged, OracleScorer(), policy="p")


def test_a_run_gives_the_requests_of_its_test_split(built_run: Path, tmp_path: Path) -> None:
    everything = {request.id for request, _ in run_requests(built_run, None)}
    split = {name: {r.id for r, _ in run_requests(built_run, name)} for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert set.union(*split.values()) <= everything
    assert not split["train"] & split["test"]
    assert split["train"]
    benchmark = build_benchmark(tmp_path / "b", "run", run_requests(built_run, None), 3)
    assert len(benchmark.manifest.items) == 3


def test_oracle_tells_doing_nothing_from_doing_it_all(benchmark: Benchmark) -> None:
    nothing = score_edits(benchmark, unchanged, OracleScorer(), policy="nothing", bootstrap_samples=50)
    done = score_edits(benchmark, wanted, OracleScorer(), policy="wanted", bootstrap_samples=50)
    assert (done.overall.region_right.value, done.overall.all_right.value) == (1.0, 1.0)
    assert done.overall.region_reward.value == pytest.approx(1.0)
    assert nothing.overall.region_right.value == nothing.overall.all_right.value == 0.0
    assert nothing.overall.background.value == 25.0
    assert nothing.coverage == done.coverage == 1.0
    assert done.synthetic


def test_one_region_done_is_not_all(tmp_path: Path) -> None:
    benchmark = two_items(tmp_path)

    def half(item: Item) -> ImageU8:
        missed = Defect(kind="missed", target=0, strength=1.0)
        return ProceduralEditor().render(item.record.request, [item.source], 1, [missed]).image

    result = score_edits(benchmark, half, OracleScorer(), policy="half", bootstrap_samples=20)
    assert result.overall.region_right.value == 0.5
    assert result.overall.all_right.value == 0.0
    assert [answer.regions[0].phi for answer in result.answers] == [0.0, 0.0]


def test_figures_by_hand(tmp_path: Path) -> None:
    """phi 25, 16 with AES 25 and 19, 25 with AES 16; R = sqrt(phi * AES) / 25 = 1, .8, sqrt(19*16)/25, .8."""
    benchmark = two_items(tmp_path)
    a, b = (item.request.id for item in benchmark.manifest.items)
    told = Told({a: ([25.0, 16.0], 20.0, 25.0), b: ([19.0, 25.0], 10.0, 16.0)})
    found = score_edits(benchmark, unchanged, told, policy="p", bootstrap_samples=200).overall
    assert RIGHT_FROM == 19
    assert found.region_right.value == 0.75
    assert found.all_right.value == 0.5
    assert found.region_reward.value == pytest.approx((1 + 0.8 + (19 * 16) ** 0.5 / 25 + 0.8) / 4)
    assert found.region_phi.value == pytest.approx((25 + 16 + 19 + 25) / 4 / 25)
    assert (found.background.value, found.background_right.value) == (15.0, 0.5)
    # Sources are drawn whole: the mean share of right regions is 0.5, 0.75 or 1, of right requests 0, 0.5 or 1.
    assert (found.region_right.low, found.region_right.high) == (0.5, 1.0)
    assert (found.all_right.low, found.all_right.high) == (0.0, 1.0)


def test_a_missing_score_is_left_out_and_counted(tmp_path: Path) -> None:
    benchmark = two_items(tmp_path)
    a, b = (item.request.id for item in benchmark.manifest.items)
    told = Told({a: ([25.0, None], None, 25.0), b: ([25.0, 25.0], 25.0, None)})
    result = score_edits(benchmark, unchanged, told, policy="p", bootstrap_samples=20)
    found = result.overall
    assert (found.n_known_regions, found.n_known_items, found.n_known_backgrounds) == (3, 1, 1)
    assert found.region_right.value == found.all_right.value == 1.0
    assert found.region_reward.value == 1.0
    # 2 x 2 region scores and 5 of the image, twice; missing: two of a region, a background, a naturalness.
    assert result.coverage == pytest.approx(1 - 4 / 18)
    assert result.missing == {"background": 1, "image naturalness": 1, "preserve": 1, "success": 1}


def test_an_edit_that_is_not_there_is_missing(tmp_path: Path) -> None:
    benchmark = two_items(tmp_path)
    first = next(iter(benchmark.items()))
    result = score_edits(benchmark, {first.id: wanted(first)}, OracleScorer(), policy="p", bootstrap_samples=20)
    assert result.not_edited == 1
    assert result.coverage == 0.5
    assert [answer.edited for answer in result.answers] == [True, False]
    assert result.overall.n_known_items == 1
    assert result.overall.all_right.value == 1.0


def test_a_reward_scores_too(tmp_path: Path) -> None:
    benchmark = two_items(tmp_path)
    result = score_edits(benchmark, unchanged, RewardScorer(Constant(16.0), synthetic=False), policy="p")
    assert result.overall.region_reward.value == pytest.approx(16 / 25)
    assert result.overall.region_right.value == 0.0
    assert result.scorer == "constant@1"
    assert result.synthetic
    nothing = score_edits(benchmark, unchanged, RewardScorer(Constant(None), synthetic=False), policy="p")
    assert (nothing.coverage, nothing.overall.region_reward.value) == (0.0, None)
    outside = score_edits(benchmark, unchanged, RewardScorer(Constant(99.0), synthetic=False), policy="p")
    assert outside.overall.n_known_regions == 0


def test_figures_by_number_of_regions(benchmark: Benchmark) -> None:
    result = score_edits(benchmark, wanted, OracleScorer(), policy="p", bootstrap_samples=20)
    assert sum(row.n_items for row in result.by_regions.values()) == N
    assert all(row.n_regions == n * row.n_items for n, row in result.by_regions.items())
    assert MultiEditResult.from_json(result.model_dump_json(), thing="result") == result


def test_comparison_is_paired(tmp_path: Path) -> None:
    """R rises by .2 in every region of both requests: the paired interval is a point, each side's is not."""
    benchmark = two_items(tmp_path)
    a, b = (item.request.id for item in benchmark.manifest.items)
    before = Told({a: ([10.0, 10.0], 10.0, 10.0), b: ([20.0, 20.0], 20.0, 20.0)})
    after = Told({a: ([15.0, 15.0], 10.0, 15.0), b: ([25.0, 25.0], 20.0, 25.0)})
    first, second = (score_edits(benchmark, unchanged, told, policy="p") for told in (before, after))
    rows = {row.what: row for row in compare(first, second).figures}
    reward = rows["region_reward"]
    assert (reward.first.value, reward.second.value) == (pytest.approx(0.6), pytest.approx(0.8))
    assert [reward.difference.value, reward.difference.low, reward.difference.high] == pytest.approx([0.2] * 3)
    assert reward.first.low is not None
    assert reward.first.low < 0.45
    assert rows["all_right"].difference.value == 0.0
    assert rows["background"].difference.value == 0.0
    assert rows["region_right"].difference.value == 0.0
    assert reward.n == 4
    back = {row.what: row for row in compare(second, first).figures}
    assert back["region_reward"].difference.value == pytest.approx(-0.2)


def test_only_what_both_have_is_compared(tmp_path: Path) -> None:
    benchmark = two_items(tmp_path)
    a, b = (item.request.id for item in benchmark.manifest.items)
    before = Told({a: ([25.0, None], 10.0, 25.0), b: ([0.0, 0.0], 20.0, 25.0)})
    after = Told({a: ([25.0, 25.0], 10.0, 25.0), b: ([None, 25.0], 20.0, 25.0)})
    first, second = (score_edits(benchmark, unchanged, told, policy="p") for told in (before, after))
    evaluation = compare(first, second)
    row = next(row for row in evaluation.figures if row.what == "region_reward")
    assert (row.n, row.first.value, row.second.value) == (2, 0.5, 1.0)
    assert PolicyEvaluation.from_json(evaluation.model_dump_json(), thing="e") == evaluation


def test_unlike_results_are_not_compared(benchmark: Benchmark, tmp_path: Path) -> None:
    one = score_edits(benchmark, unchanged, OracleScorer(), policy="p", bootstrap_samples=5)
    other = score_edits(two_items(tmp_path), unchanged, OracleScorer(), policy="p", bootstrap_samples=5)
    with pytest.raises(BadInput, match="differ in benchmark_sha256"):
        compare(one, other)
    with pytest.raises(BadInput, match="differ in scorer"):
        compare(one, one.model_copy(update={"scorer": "x"}))
    with pytest.raises(BadInput, match="other requests or regions"):
        compare(one, one.model_copy(update={"answers": one.answers[1:]}))


def test_edits_that_do_not_fit_are_refused(benchmark: Benchmark) -> None:
    with pytest.raises(BadInput, match="is of no request"):
        score_edits(benchmark, {"0" * 16: picture()}, OracleScorer(), policy="p")
    with pytest.raises(BadInput, match="its source uint8"):
        score_edits(benchmark, lambda item: item.source[:32], OracleScorer(), policy="p")
    with pytest.raises(BadInput, match="is float64"):
        score_edits(benchmark, lambda item: item.source / 255.0, OracleScorer(), policy="p")  # type: ignore[arg-type, return-value]


def _damaged(built: Path, tmp_path: Path) -> tuple[Path, dict]:  # type: ignore[type-arg]
    folder = shutil.copytree(built, tmp_path / "damaged")
    return folder, json.loads((folder / "benchmark.json").read_text())


HOSTILE = {
    "no JSON": (lambda d: "{", r"benchmark\.json: is not JSON"),
    "newer": (lambda d: d | {"schema": "multi-edit-benchmark/9"}, "this version reads up to"),
    "unknown field": (lambda d: d | {"x": 1}, "x: Extra inputs"),
    "no items": (lambda d: d | {"items": []}, "at least 1 item"),
    "twice": (lambda d: d | {"items": d["items"][:1] * 2}, "more than once"),
    "path": (lambda d: _first(d, source="../secret.png"), "items.0.source"),
    "absolute": (lambda d: _first(d, source="/etc/passwd"), "items.0.source"),
    "no file": (lambda d: _first(d, source=f"sources/{'0' * 64}.png"), "no source that can be read"),
    "other bytes": (lambda d: _first(d, source_sha256="0" * 64), "another source than the manifest says"),
    "mask size": (lambda d: _mask(d, size=[2, 2]), r"a mask of \[2, 2\] px"),
    "mask runs": (lambda d: _mask(d, counts="05"), "a mask that is none"),
    "empty mask": (lambda d: _mask(d, counts="PP4"), "an empty mask"),
    "other region": (lambda d: _region(d, "0" * 16), "for no target of it"),
    "one region": (lambda d: _first(d, regions=d["items"][0]["regions"][:1]), "at least 2 items"),
}


def _first(document: dict, **fields: object) -> dict:  # type: ignore[type-arg]
    return document | {"items": [document["items"][0] | fields, *document["items"][1:]]}


def _mask(document: dict, **fields: object) -> dict:  # type: ignore[type-arg]
    regions = document["items"][0]["regions"]
    return _first(document, regions=[regions[0] | {"mask": regions[0]["mask"] | fields}, *regions[1:]])


def _region(document: dict, key: str) -> dict:  # type: ignore[type-arg]
    regions = document["items"][0]["regions"]
    return _first(document, regions=[regions[0] | {"region": key}, *regions[1:]])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_one_line(name: str, built: Path, tmp_path: Path) -> None:
    folder, document = _damaged(built, tmp_path)
    change, fault = HOSTILE[name]
    changed = change(document)
    (folder / "benchmark.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(BadInput, match=fault) as caught:
        list(read_benchmark(folder).items())
    assert "\n" not in str(caught.value)


def test_a_source_that_is_no_image_or_has_another_size(built: Path, tmp_path: Path) -> None:
    from hashlib import sha256

    folder, document = _damaged(built, tmp_path)
    for data, fault in ((b"no image", "no image"), (encode_image(picture(), "png"), "another size")):
        (folder / document["items"][0]["source"]).write_bytes(data)
        changed = _first(document, source_sha256=sha256(data).hexdigest())
        (folder / "benchmark.json").write_text(json.dumps(changed))
        with pytest.raises(BadInput, match=fault):
            list(read_benchmark(folder).items())


def test_a_folder_without_a_manifest_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_benchmark(tmp_path)


def test_scores_of_an_edit_do_not_depend_on_the_others(benchmark: Benchmark) -> None:
    items = list(benchmark.items())
    images = [np.clip(item.source.astype(int) + 30, 0, 255).astype(np.uint8) for item in items]
    together = OracleScorer().score(items, images)
    assert together == [OracleScorer().score([i], [x])[0] for i, x in zip(items, images, strict=True)]
