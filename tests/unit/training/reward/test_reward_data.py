"""Training data: what a tar says, what is missing, mirrors, batches."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.dataset.shards import read_dataset
from schemas.errors import BadInput, TooManyRejected
from schemas.region import region_id
from training.reward.augmentation import mirrored, mirrored_words, swapped
from training.reward.batches import by_request, collate, training_batches
from training.reward.data import Counts, TrainingItem, check_counts, count_scores, item_of, load_items
from training.reward.instruction_variants import OPERATIONS
from training.reward.network import NetworkConfig, RegionNet
from training.reward.network_io import ASKED
from training.reward.objective import LossWeights, _contrast, _pointing, objective, ordered_pairs
from training.reward.text_encoding import words_of

SIDE = 64
ASKED_NAMES = tuple(ASKED)


@pytest.fixture(scope="module")
def items(built_run: Path) -> list[TrainingItem]:
    return load_items(built_run / "dataset", "train", SIDE)[0]


def test_items_hold_what_the_rows_say(built_run: Path, items: list[TrainingItem]) -> None:
    rows = [row for _, row, _ in read_dataset(built_run / "dataset", "train")]
    assert [item.key for item in items] == [row.key for row in rows]
    for item, row in zip(items, rows, strict=True):
        assert item.features.keys == tuple(region.region for region in row.regions)
        assert item.image_scores[0] == row.background
        for scores, asked, region in zip(item.region_scores, item.asked, row.regions, strict=True):
            if region.status == "unplanned":
                assert np.isnan(scores).all()
                assert (asked == -100).all()
            else:
                target = next(t for n, t in enumerate(row.targets) if region_id(row.request, n) == region.region)
                assert scores.tolist() == [region.success, region.preserve]
                assert OPERATIONS[asked[0] - 1] == target.operation


def test_missing_scores_are_counted_and_give_no_gradient(built_run: Path) -> None:
    _, row, members = next(iter(read_dataset(built_run / "dataset", "train")))
    regions = tuple(region.model_copy(update={"success": None, "phi": None}) for region in row.regions)
    item = item_of(row.model_copy(update={"regions": regions, "naturalness": None}), members, SIDE)
    assert np.isnan(item.region_scores[:, 0]).all()
    assert np.isnan(item.image_scores[3])
    network = RegionNet(NetworkConfig(channels=8, text=8, hidden=16))
    batch = collate([item])
    outputs = network(batch.inputs)
    outputs.region_logit.retain_grad()
    outputs.image_logit.retain_grad()
    weights = LossWeights(asked=0, expected=0)
    objective(outputs, batch, weights, torch.Generator().manual_seed(0), 10.0).total.backward()
    assert outputs.region_logit.grad is not None
    assert outputs.image_logit.grad is not None
    assert outputs.region_logit.grad[..., 0].abs().max() == 0
    assert outputs.region_logit.grad[0, 0, 1] != 0
    assert outputs.image_logit.grad[0, 3] == 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_every_missing_score_is_counted_by_hand(built_run: Path) -> None:
    _, row, members = next(iter(read_dataset(built_run / "dataset", "train")))
    counts = Counts()
    count_scores(counts, row, item_of(row, members, SIDE))
    planned = sum(region.status != "unplanned" for region in row.regions)
    assert counts == Counts(rows=1, unscored_rows=0, scores=2 * planned + 5, missing=0)
    bare = row.model_copy(update={"naturalness": None, "artifacts": None})
    count_scores(counts, bare, item_of(bare, members, SIDE))
    assert (counts.rows, counts.missing) == (2, 2)


def test_a_dataset_that_cannot_teach_is_one_clear_line(built_run: Path) -> None:
    with pytest.raises(BadInput, match="has no scores"):
        check_counts(Counts(rows=3, unscored_rows=3, scores=21, missing=21), "d", 0.2)
    with pytest.raises(TooManyRejected, match=r"5 of 20 scores are missing.*0\.2"):
        check_counts(Counts(rows=3, scores=20, missing=5), "d", 0.2)
    with pytest.raises(BadInput, match="has no rows"):
        check_counts(Counts(), "d", 0.2)
    check_counts(Counts(rows=3, scores=20, missing=4), "d", 0.2)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        load_items(built_run / "nowhere", "train", SIDE)


def test_a_mirror_turns_pixels_places_and_words(items: list[TrainingItem]) -> None:
    item = replace(items[0], features=replace(items[0].features, instruction="Move the disc to the left, not right."))
    turned = mirrored(item)
    assert turned.features.instruction == "Move the disc to the right, not left."
    assert np.array_equal(turned.features.edited[:, ::-1], item.features.edited)
    assert np.array_equal(turned.features.places[..., ::-1], item.features.places)
    assert turned.features.geometry[0, 0] == -item.features.geometry[0, 0]
    assert np.array_equal(turned.region_scores, item.region_scores, equal_nan=True)
    again = mirrored(turned).features
    assert again.instruction == item.features.instruction
    assert np.array_equal(again.maps, item.features.maps)


def worded(item: TrainingItem, instruction: str, *labels: str) -> TrainingItem:
    return replace(item, features=replace(item.features, instruction=instruction), labels=labels or item.labels)


def test_a_mirror_turns_labels_with_the_instruction_so_that_they_still_name_their_region(
    items: list[TrainingItem],
) -> None:
    turned = mirrored(worded(items[0], "Left mug: paint it. LEFT!", "left mug", *items[0].labels[1:]))
    assert turned.features.instruction == "Right mug: paint it. RIGHT!"
    assert turned.labels[0] == "right mug"
    named = collate([turned]).named[0, 0]
    assert named.nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "turned"),
    [
        ("the leftmost cup", "the rightmost cup"),
        ("Move it rightwards, then leftward", "Move it leftwards, then rightward"),
        ("the left-hand side, upper_left", "the right-hand side, upper_right"),
        ("a bright, leftover frightened thing", "a bright, leftover frightened thing"),
    ],
)
def test_a_mirror_turns_whole_words_of_direction(given: str, turned: str) -> None:
    assert mirrored_words(given) == turned
    assert mirrored_words(turned) == given


@pytest.mark.parametrize("text", ['Write "HI" on it.', "Write \u201cHI\u201d on it.", "Write \u00abHI\u00bb on it."])
def test_lettering_is_not_mirrored(items: list[TrainingItem], text: str) -> None:
    item = worded(items[0], text)
    assert mirrored(item) is item


def test_batches_hold_whole_requests_and_do_not_hang_on_where_they_start(items: list[TrainingItem]) -> None:
    groups = by_request(items)
    assert sum(map(len, groups)) == len(items)
    whole = [[item.key for item in batch] for batch in training_batches(groups, 2, 5, 0, 9)]
    late = [[item.key for item in batch] for batch in training_batches(groups, 2, 5, 6, 9)]
    assert whole[6:] == late
    first_epoch = [key for batch in whole[: len(groups) // 2] for key in batch]
    assert len(first_epoch) == len(set(first_epoch))


def test_a_batch_lines_up_regions_scores_and_groups(items: list[TrainingItem]) -> None:
    first, second = by_request(items)[:2]
    batch = collate([*first, *second])
    assert batch.asked.shape[-1] == len(ASKED)
    assert batch.image_group[: len(first)].unique().numel() == 1
    assert batch.image_group.unique().numel() == 2
    assert torch.equal(batch.region_group[0] >= 0, torch.arange(batch.region_group.shape[1]) < len(first[0].labels))
    planned = batch.region_group[: len(first), 0]
    assert planned.unique().numel() == 1, "the first planned region is the same for all candidates of a request"
    assert not torch.isin(batch.region_group[len(first) :, 0], planned).any()


def test_pairs_are_ordered_within_a_group_and_only_where_both_are_scored() -> None:
    scores = torch.tensor([1.0, 0.5, 0.99, math.nan, 0.2, 0.9])
    groups = torch.tensor([0, 0, 0, 0, 1, -1])
    better, worse = ordered_pairs(scores, groups, 0.04)
    assert list(zip(better.tolist(), worse.tolist(), strict=True)) == [(0, 1), (2, 1)]


def test_an_instruction_has_other_wordings_that_name_the_same_things(items: list[TrainingItem]) -> None:
    for item in items:
        assert len(item.wordings) == 12
        assert len(set(item.wordings)) > 4
        for label in filter(None, item.labels):
            assert all(label in wording for wording in item.wordings)


def test_what_a_person_worded_is_left_alone(built_run: Path) -> None:
    _, row, members = next(iter(read_dataset(built_run / "dataset", "train")))
    item = item_of(row.model_copy(update={"instruction": "Do what I mean."}), members, SIDE)
    assert item.wordings == item.swaps == ()
    batch = collate([item])
    assert not batch.named.any()


def test_another_instruction_lowers_the_success_of_what_shows_another_attribute(items: list[TrainingItem]) -> None:
    found = [(item, swap) for item in items for swap in item.swaps]
    assert len(found) > 5
    for item, swap in found:
        assert swap.instruction not in (item.features.instruction, *item.wordings)
        assert item.region_scores[swap.region, 0] >= 24
        changed = {ASKED_NAMES[i] for i, asked in enumerate(swap.asked) if asked != item.asked[swap.region, i]}
        assert "operation" in changed or changed in ({"color"}, {"texture"})
        left = 1 - 0.88 * 0.65 if changed == {"texture"} else 0.12
        other = swapped(item, swap)
        assert other.region_scores[swap.region, 0] == pytest.approx(item.region_scores[swap.region, 0] * left, abs=0.01)
        assert other.request != item.request
        assert np.isnan(other.image_scores[1])
        assert (other.done == item.done).all()
        kept = np.arange(len(item.region_scores)) != swap.region
        assert np.array_equal(other.region_scores[kept], item.region_scores[kept], equal_nan=True)
        assert np.array_equal(other.region_scores[:, 1], item.region_scores[:, 1], equal_nan=True)


def test_what_was_done_is_known_where_it_was_carried_out(items: list[TrainingItem]) -> None:
    for item in items:
        for scores, asked, done in zip(item.region_scores, item.asked, item.done, strict=True):
            known = scores[0] >= 24
            assert done.tolist() == [int(a) if known and a > 0 else -100 for a in asked]


def test_a_batch_says_which_words_name_a_region(items: list[TrainingItem]) -> None:
    item = items[0]
    batch = collate([item])
    words = words_of(item.features.instruction)
    for r, label in enumerate(item.labels):
        assert [w for w, named in zip(words, batch.named[0, r], strict=True) if named] == words_of(label)


def test_pointing_at_the_name_is_cheap_by_hand() -> None:
    pointing = torch.tensor([[[0.5, 0.25, 0.25]]])
    assert _pointing(pointing, torch.tensor([[[True, True, False]]])).item() == pytest.approx(-math.log(0.75))
    assert _pointing(pointing, torch.zeros(1, 1, 3, dtype=torch.bool)).item() == 0


def test_contrast_by_hand() -> None:
    # two scores of one kind: logits 2 (sound) and 1 (flawed): ln(1 + e^-1); equal scores make no pair
    logits, scores = torch.tensor([[2.0], [1.0], [0.0]]), torch.tensor([[1.0], [0.5], [math.nan]])
    assert _contrast(logits, scores).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-5)
    assert _contrast(logits, torch.ones(3, 1)).item() == 0
