"""The reward's weights that come with the product: what they see, and what a training that starts from them may ask."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.requests.scenes import TEXTURES
from runtime.bootstrap import resamples
from schemas.errors import BadInput
from tests.integration.trainings.test_reward_training import tiny
from training.checkpoint import read_tensors
from training.evaluation.localisation import Localisation, pairs_of, source_index
from training.evaluation.localisation_cases import HELD_OUT_TEXTURES, scene_cases
from training.predictions import ask
from training.reward import region_reward
from training.reward.config import RewardConfig
from training.reward.features import Features, features_of
from training.reward.region_reward import load, make_network
from training.reward.shipped import FOLDERS, WEIGHTS, provenance, ship, shipped_folder, start_from_shipped
from training.reward.train import train_reward
from training.reward_protocol import RewardQuery
from training.reward_registry import make_reward


def started(**changes: object) -> RewardConfig:
    return RewardConfig.model_validate({"dataset": "x", "start": "shipped", "channels": 24, "threads": 1, **changes})


def test_the_reward_without_a_folder_looks_where_the_flaw_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[object, ...], Features] = {}  # both rewards see the same of a query, which costs half of all

    def features_once(query: RewardQuery, side_px: int, *, use_source: bool) -> Features:
        key = (id(query), side_px, use_source)
        if key not in seen:
            seen[key] = features_of(query, side_px, use_source=use_source)
        return seen[key]

    monkeypatch.setattr(region_reward, "features_of", features_once)
    cases = scene_cases(20, 3)[0]
    sources = source_index(cases)
    weights = resamples(int(sources.max()) + 1, 50, 0)
    found = {}
    for spec in ("region", f"untrained:{WEIGHTS}"):
        answers = ask(make_reward(spec), [case.query for case in cases])
        found[spec] = Localisation(pairs_of(cases, answers, sources), weights).macro()[0]
    assert found["region"] > 0.85
    assert found["region"] > found[f"untrained:{WEIGHTS}"] + 0.25


def test_what_is_shipped_says_how_it_was_made() -> None:
    facts = provenance()
    assert facts["synthetic"] is True
    assert facts["data"]["leave_out_defects"] == ["compression"]
    assert not set(facts["data"]["scene_textures"]) & set(HELD_OUT_TEXTURES)
    assert set(facts["data"]["scene_textures"]) < set(TEXTURES)
    for (source, instruction), folder in FOLDERS.items():
        reward = load(WEIGHTS / folder)
        assert (reward.config.use_source, reward.config.use_instruction) == (source, instruction)
        assert not Path(reward.config.dataset).is_absolute()
        assert facts["trainings"][folder]["steps"] == reward.config.steps


@pytest.mark.parametrize("blind", [{}, {"use_source": False}, {"use_instruction": False}])
def test_a_training_starts_from_the_weights_of_its_own_eyes(blind: dict[str, bool]) -> None:
    config = started(**blind)
    network = make_network(config)
    fresh = network.state_dict()["region_head.weight"].clone()
    start_from_shipped(network, config)
    tensors = read_tensors(shipped_folder(config) / "reward.safetensors", "train anew")
    assert all(torch.equal(tensor, tensors[name].float()) for name, tensor in network.state_dict().items())
    assert not torch.equal(fresh, network.state_dict()["region_head.weight"])


def test_a_started_training_goes_on_from_its_own_checkpoint_not_from_the_start(few_rows: Path, tmp_path: Path) -> None:
    def interrupt(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    plain = {"side_px": 64, "channels": 24, "text": 64, "hidden": 160, "start": "shipped", "steps": 4}
    config = tiny(few_rows, **plain, checkpoint_steps=2)
    train_reward(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, tmp_path / "cut", on_step=interrupt)
    train_reward(config, tmp_path / "cut")
    whole, cut = ((tmp_path / name / "reward.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 16}, "weight .* expected"),
        ({"supervision": "image"}, "scores of regions"),
        ({"leave_out_defects": ("warp",)}, "have seen the defect warp"),
        ({"use_source": False, "use_instruction": False}, "none is shipped"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes: dict[str, object], said: str) -> None:
    config = started(**changes)
    with pytest.raises(BadInput, match=said):
        start_from_shipped(make_network(config), config)


def test_what_the_weights_have_not_seen_may_be_left_out() -> None:
    config = started(leave_out_defects=("compression",))
    network = make_network(config)
    start_from_shipped(network, config)
    shipped = read_tensors(WEIGHTS / "reward.safetensors", "train anew")["region_head.weight"]
    assert torch.equal(network.state_dict()["region_head.weight"], shipped.float())


def test_shipping_halves_the_weights_and_names_no_place_of_the_machine(
    built_run: Path, few_rows: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(built_run / "plan", run / "plan")
    shutil.copy(built_run / "run.json", run)
    config = tiny(few_rows, steps=1)
    for (source, instruction), folder in FOLDERS.items():
        blind = {"use_source": source, "use_instruction": instruction}
        train_reward(config.model_copy(update=blind), run / "reward" / folder)
    folders = ship(run, tmp_path / "shipped")
    assert [folder.resolve() for folder in folders] == [(tmp_path / "shipped" / f).resolve() for f in FOLDERS.values()]
    trained, halved = load(run / "reward"), load(tmp_path / "shipped")
    assert (tmp_path / "shipped/reward.safetensors").stat().st_size < 0.6 * (
        run / "reward/reward.safetensors"
    ).stat().st_size
    for name, tensor in trained.network.state_dict().items():
        assert torch.allclose(tensor, halved.network.state_dict()[name], rtol=1e-3, atol=1e-6)
    assert halved.calibrations == trained.calibrations
    written = "".join(path.read_text() for path in (tmp_path / "shipped").rglob("*.json"))
    assert str(tmp_path) not in written
    assert str(built_run) not in written
    assert str(few_rows) not in written
    assert json.loads((tmp_path / "shipped/made.json").read_text())["trainings"]["."]["steps"] == 1
