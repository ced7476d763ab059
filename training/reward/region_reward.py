"""The `region` reward: the trained network behind the Protocol `Reward`, loaded from its folder."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from schemas.record import short_hash
from schemas.score import IMAGE_SCORES, REGION_SCORES, SCORE_MAX
from training.checkpoint import write_json, write_tensors
from training.reward.batches import features_to_inputs
from training.reward.calibration import Calibration, as_json
from training.reward.checkpoint import SCHEMA, VERSION, read_reward, read_weights
from training.reward.config import RewardConfig, found_settings, kept_settings, parse_config
from training.reward.features import Features, features_of
from training.reward.network import ARCHITECTURE, NetworkConfig, RegionNet
from training.reward.network_io import NetworkOutputs
from training.reward_protocol import Predicted, Prediction, RegionPrediction, RewardQuery

#: Scores by the names that calibrations go by, in the order of the network's outputs.
REGION_NAMES = tuple(f"region.{name}" for name in REGION_SCORES)
IMAGE_NAMES = tuple(f"image.{name}" for name in IMAGE_SCORES)
_BATCH = 16
ByScore = dict[str, NDArray[np.float64]]


def make_network(config: RewardConfig) -> RegionNet:
    """A network with fresh weights that hang on the config's seed alone."""
    network_config = NetworkConfig(
        channels=config.channels,
        text=config.text,
        hidden=config.hidden,
        use_source=config.use_source,
        use_instruction=config.use_instruction,
        backbone=config.backbone,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = RegionNet(network_config)
    return network.to(memory_format=torch.channels_last)


def tensor_hashes(network: nn.Module) -> dict[str, list[Any]]:
    """Type, shape and sha256 of the bytes of every weight by its name; how they lie in memory says nothing."""
    return {
        name: [str(tensor.dtype), list(tensor.shape), sha256(_bytes(tensor)).hexdigest()]
        for name, tensor in network.state_dict().items()
    }


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class RegionReward:
    """A `Reward` of a `RegionNet`; see `load` and `untrained`."""

    def __init__(
        self, name: str, network: RegionNet, config: RewardConfig, calibrations: dict[str, Calibration] | None = None
    ) -> None:
        self.name, self.network, self.config = name, network.eval(), config
        self.calibrations = calibrations or {}
        backbone = {} if network.backbone is None else {"backbone": network.backbone.revision}
        self.revision = short_hash(ARCHITECTURE, tensor_hashes(network), as_json(self.calibrations), backbone)

    def score(self, queries: Sequence[RewardQuery]) -> list[Prediction]:
        """One prediction per query, in order; a region whose mask is empty is missing.

        Raises: BadInput where source, edited image and masks of a query differ in size.
        """
        predictions: list[Prediction] = []
        for start in range(0, len(queries), _BATCH):
            batch = [self.features(query) for query in queries[start : start + _BATCH]]
            predictions += self.score_features(batch)
        return predictions

    def features(self, query: RewardQuery) -> Features:
        """What the network sees of a query."""
        return features_of(query, self.config.side_px, use_source=self.config.use_source)

    def score_features(self, batch: Sequence[Features]) -> list[Prediction]:
        """As `score`, from features that were computed before."""
        with torch.inference_mode():
            outputs = self.network(features_to_inputs(batch))
        means, stds = self.calibrated(outputs)
        return [_prediction(features, means, stds, row) for row, features in enumerate(batch)]

    def calibrated(self, outputs: NetworkOutputs) -> tuple[ByScore, ByScore]:
        """Means and standard deviations in points, by the names of `REGION_NAMES` (B, R) and `IMAGE_NAMES` (B,)."""
        means, stds = {}, {}
        for names, logits, log_variances in (
            (REGION_NAMES, outputs.region_logit, outputs.region_log_variance),
            (IMAGE_NAMES, outputs.image_logit, outputs.image_log_variance),
        ):
            for index, name in enumerate(names):
                calibration = self.calibrations.get(name, Calibration())
                means[name] = SCORE_MAX * calibration.mean(_column(logits, index))
                stds[name] = SCORE_MAX * calibration.std(_column(log_variances, index))
        return means, stds

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes weights, then `reward.json`, which makes them exist. dtype: what the weights are stored in."""
        weights = {name: tensor.to(dtype) for name, tensor in self.network.state_dict().items()}
        write_tensors(folder / "reward.safetensors", weights)
        settings = kept_settings(self.config.model_dump(mode="json"), folder)
        document = {
            "schema": f"{SCHEMA}/{VERSION}",
            "architecture": ARCHITECTURE,
            "network": asdict(self.network.config) | {"backbone": settings["backbone"]},
            "config": settings,
            "config_digest": short_hash(settings),
            "calibration": as_json(self.calibrations),
            "revision": self.revision,
        }
        write_json(folder / "reward.json", document)


def load(path: Path) -> RegionReward:
    """The reward in a folder that `train_reward` wrote.

    Raises: BadInput for another architecture or schema, naming it, or where files are missing or damaged; NewerSchema.
    """
    document = read_reward(path / "reward.json", "train one: `regionwise train-reward`")
    config = parse_config(found_settings(document.get("config") or {}, path), str(path / "reward.json"))
    network = make_network(config)
    read_weights(path / "reward.safetensors", network)
    calibrations = {name: Calibration(*values) for name, values in document["calibration"].items()}
    return RegionReward(_name(config), network, config, calibrations)


def untrained(config: RewardConfig) -> RegionReward:
    """The same network with fresh weights: a rival that pools alike and knows nothing."""
    return RegionReward("region:untrained", make_network(config), config)


def _name(config: RewardConfig) -> str:
    blind = [name for name in ("source", "instruction") if not getattr(config, f"use_{name}")]
    return f"region:{'-and-'.join(blind)}-blind" if blind else "region"


def _column(tensor: Tensor, index: int) -> NDArray[np.float64]:
    return np.asarray(tensor[..., index].double().numpy())


def _prediction(features: Features, means: ByScore, stds: ByScore, row: int) -> Prediction:
    def predicted(name: str, *place: int) -> Predicted:
        mean, std = float(means[name][(row, *place)]), float(stds[name][(row, *place)])
        return Predicted(min(max(mean, 0.0), float(SCORE_MAX)), std) if np.isfinite(mean) else Predicted(None)

    regions = {}
    for index, key in enumerate(features.keys):
        empty = not features.places[index, 0].any()
        success, preserve = (Predicted(None) if empty else predicted(name, index) for name in REGION_NAMES)
        regions[key] = RegionPrediction(success, preserve)
    image = {name: predicted(f"image.{name}") for name in IMAGE_SCORES}
    if not features.places[-1, 0].any():
        image["background"] = Predicted(None)
    return Prediction(regions=regions, **image)
