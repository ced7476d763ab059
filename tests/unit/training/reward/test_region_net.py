"""The network: shapes, strict pooling, any number of regions, inputs that are left out."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.errors import BadInput, MissingPackage
from schemas.score import IMAGE_SCORES
from training.reward.backbone import FrozenBackbone
from training.reward.batches import features_to_inputs
from training.reward.calibration import Calibration
from training.reward.config import RewardConfig
from training.reward.features import features_of
from training.reward.network import (
    NetworkConfig,
    RegionNet,
    _agreement,
    _offsets,
)
from training.reward.network_io import ASKED, EXPECTED
from training.reward.network_layers import as_cells, pooled, spread
from training.reward.region_reward import RegionReward, load, untrained
from training.reward.shipped import FOLDERS, WEIGHTS
from training.reward.text_encoding import encode, word_buckets
from training.reward_protocol import RewardQuery

SIDE = 64
TINY = NetworkConfig(channels=8, text=8, hidden=16)


def net(config: NetworkConfig = TINY) -> RegionNet:
    torch.manual_seed(0)
    return RegionNet(config).eval()


def query(regions: int, seed: int = 0, instruction: str = "Make the red disc blue.") -> RewardQuery:
    rng = np.random.default_rng(seed)
    source, edited = (rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2))
    masks = {}
    for n in range(regions):
        mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
        y, x = divmod(n, 8)
        mask[8 * y : 8 * y + 6, 8 * x : 8 * x + 6] = True
        masks[f"{n:016x}"] = mask
    return RewardQuery(source, edited, instruction, masks)


def test_pooling_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 100.0]]]])
    weights = torch.tensor([[[[1.0, 1.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    cells = as_cells(maps)
    mean = pooled(cells, weights)
    assert mean.flatten().tolist() == [2.25, 0]
    assert spread(cells, weights, mean)[0, 0, 0].item() == pytest.approx(0.8292, abs=1e-3)


def test_whether_what_was_done_is_what_was_asked_by_hand() -> None:
    """Asked: class 1 for sure, or nothing; done: class 1 with a chance of a quarter."""
    done = {name: torch.full((1, 2, count), -99.0) for name, count in ASKED.items()}
    asked = {name: logits.clone() for name, logits in done.items()}
    for name in ASKED:
        done[name][..., 1], done[name][..., 2] = math.log(1 / 4), math.log(3 / 4)
        asked[name][0, 0, 1] = asked[name][0, 1, 0] = 0.0
    agree = _agreement(asked, done)[..., -2 * len(ASKED) : -len(ASKED)]
    assert agree[0].flatten().tolist() == pytest.approx([0.25] * len(ASKED) + [1.0] * len(ASKED), abs=1e-5)


def test_how_far_a_word_stands_from_a_name_by_hand() -> None:
    pointing = torch.zeros(1, 1, 9)
    pointing[0, 0, 4] = 1
    offsets = _offsets(pointing)[0, 0]
    assert offsets[:, 0].tolist() == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0]
    assert offsets[:, 1].tolist() == [1.0, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0]
    assert offsets[[4, 8], 2].tolist() == pytest.approx([1, math.exp(-1)], abs=1e-6)


def test_no_gradient_reaches_a_cell_outside_the_mask() -> None:
    maps = torch.rand(1, 3, 8, 8, requires_grad=True)
    weights = torch.zeros(1, 1, 8, 8)
    weights[0, 0, 2:5, 3:6] = 1
    mean = pooled(as_cells(maps), weights)
    (mean.sum() + spread(as_cells(maps), weights, mean).sum()).backward()
    assert maps.grad is not None
    touched = maps.grad.abs().sum(dim=1)[0] > 0
    assert torch.equal(touched, weights[0, 0] > 0)


def test_the_network_looks_at_spots_inside_alone() -> None:
    network = net()
    maps = torch.rand(1, 16, 16, 16, requires_grad=True)  # (B, 2C, h, w)
    inside = torch.zeros(1, 1, 16, 16)
    inside[0, 0, 4:6, 4:6] = 1
    known = sum(ASKED.values())
    network._spots(as_cells(maps), inside, torch.rand(1, 1, TINY.hidden + known)).sum().backward()
    assert maps.grad is not None
    outside = maps.grad.abs().sum(dim=1) * (inside[:, 0] == 0)
    assert outside.max() < 1e-6 * maps.grad.abs().max()


@pytest.mark.parametrize("regions", [0, 1, 40])
def test_any_number_of_regions(regions: int) -> None:
    outputs = net()(features_to_inputs([features_of(query(regions), SIDE)]))
    assert outputs.region_logit.shape == outputs.region_log_variance.shape == (1, regions, 2)
    assert outputs.image_logit.shape == (1, len(IMAGE_SCORES))
    assert outputs.expected.shape == (1, regions, EXPECTED)
    for tensor in (outputs.region_logit, outputs.image_logit, outputs.region_log_variance):
        assert torch.isfinite(tensor).all()


def test_a_query_scores_the_same_alone_and_in_a_batch() -> None:
    network = net()
    batch = [features_of(query(n, seed=n), SIDE) for n in (1, 3)]
    together = network(features_to_inputs(batch))
    alone = network(features_to_inputs(batch[:1]))
    assert torch.allclose(alone.region_logit[0], together.region_logit[0, :1], atol=1e-4)
    assert torch.allclose(alone.image_logit[0], together.image_logit[0], atol=1e-4)


def test_the_order_of_regions_does_not_matter() -> None:
    network, asked = net(), query(3)
    turned = replace(asked, masks=dict(reversed(list(asked.masks.items()))))
    first, second = (network(features_to_inputs([features_of(q, SIDE)])).region_logit[0] for q in (asked, turned))
    assert torch.allclose(first, second.flip(0), atol=1e-4)
    assert not torch.allclose(first, second, atol=1e-3)


def test_inputs_that_are_left_out_change_nothing_and_others_do() -> None:
    def answer(use_source: bool, use_instruction: bool, **changes: object) -> torch.Tensor:
        network = net(replace(TINY, use_source=use_source, use_instruction=use_instruction))
        asked = replace(query(2), **changes)  # type: ignore[arg-type]
        return network(features_to_inputs([features_of(asked, SIDE, use_source=use_source)])).region_logit

    other_source = {"source": np.zeros((SIDE, SIDE, 3), dtype=np.uint8)}
    other_words = {"instruction": "Remove the green star, then enlarge the white cross."}
    assert torch.equal(answer(False, True), answer(False, True, **other_source))
    assert torch.equal(answer(True, False), answer(True, False, **other_words))
    assert not torch.equal(answer(True, True), answer(True, True, **other_source))
    assert not torch.equal(answer(True, True), answer(True, True, **other_words))


def test_words_and_their_parts_have_buckets() -> None:
    assert word_buckets("red") != word_buckets("blue")
    assert set(word_buckets("squares")) & set(word_buckets("square"))
    codes = encode(["Red!", ""])
    assert codes.shape[:2] == (2, 2)
    assert codes[1].sum() == 0
    assert encode(["RED"]).equal(encode(["red"]))


def test_a_backbone_needs_a_folder_and_its_package(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"config\.json"):
        FrozenBackbone(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises((MissingPackage, BadInput), match=r"transformers|no model"):
        FrozenBackbone(tmp_path)


def test_a_reward_s_revision_is_of_every_bit_of_its_weights_and_not_of_how_they_lie() -> None:
    config = RewardConfig(dataset="none", channels=8, text=8, hidden=16)
    reward = untrained(config)
    first = reward.revision
    assert RegionReward("region", reward.network.to(memory_format=torch.contiguous_format), config).revision == first
    weights = reward.network.state_dict()
    name = next(name for name, weight in weights.items() if weight.dim() == 4)
    with torch.no_grad():
        weights[name].view(-1)[0].neg_()
        flipped = RegionReward("region", reward.network, config).revision
        weights[name].view(-1)[0].neg_()
        assert RegionReward("region", reward.network, config).revision == first
    assert flipped != first
    assert RegionReward("region", reward.network, config, {"region.success": Calibration(2.0)}).revision != first
    assert RegionReward("region", reward.network.double(), config).revision != first


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_shipped_rewards_say_their_revision(folder: str) -> None:
    said = json.loads((WEIGHTS / folder / "reward.json").read_bytes())["revision"]
    assert load(WEIGHTS / folder).revision == said
