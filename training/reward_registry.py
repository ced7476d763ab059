"""Rewards by their spec, `name` or `name:place`; what a name needs is imported only when it is asked for.

| spec | reward |
|---|---|
| `region` | the region network with the weights that come with the product, trained on procedural scenes alone |
| `region:PATH` | the same, from the folder that `regionwise train-reward` wrote |
| `untrained:PATH` | the same network with fresh weights, a rival |
| `endpoint:URL` | a vision-language model behind an OpenAI-compatible API |
| `pixel-difference`, `pixel-change` | rivals that compare pixels alone |
"""

from pathlib import Path

from runtime.specs import parse_spec
from schemas.errors import BadInput
from training.reward_protocol import Reward

REWARDS = ("region", "untrained", "endpoint", "pixel-difference", "pixel-change")


def make_reward(spec: str) -> Reward:
    """The reward of a spec. Raises: BadInput for a spec that is not known, misses its place, or names a bad one."""
    name, place = parse_spec(spec, REWARDS, "reward")
    if name.startswith("pixel-"):
        return _pixel(spec, name, place)
    if place is None and name == "region":
        from training.reward.shipped import WEIGHTS

        return _region(str(WEIGHTS))
    if place is None:
        raise BadInput(f"reward {spec!r}", "does not say where it is", f"write {name}:{_PLACES[name]}")
    return _MAKERS[name](place)


def _pixel(spec: str, name: str, place: str | None) -> Reward:
    from training.reward.pixel_difference import PixelDifference

    if place is not None:
        raise BadInput(f"reward {spec!r}", f"{name} takes nothing after its name", f"write {name}")
    return PixelDifference(wants_change=name == "pixel-change")


def _region(place: str) -> Reward:
    from training.reward.region_reward import load

    return load(Path(place))


def _untrained(place: str) -> Reward:
    from training.reward.region_reward import load, untrained

    return untrained(load(Path(place)).config)


def _endpoint(url: str) -> Reward:
    from training.judge.endpoint import make_judge

    return make_judge(url)


_PLACES = {"region": "FOLDER", "untrained": "FOLDER", "endpoint": "URL"}
_MAKERS = {"region": _region, "untrained": _untrained, "endpoint": _endpoint}
