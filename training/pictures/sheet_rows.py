"""What a sheet shows: requests, their regions, and samples with what is known of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.reward import BACKGROUND


@dataclass(frozen=True)
class SheetRegion:
    """One planned region. mask: (H, W) bool, in the source's frame."""

    key: str
    label: str
    mask: MaskBool


@dataclass(frozen=True)
class SheetSample:
    """One edited image, HWC uint8, with what is known of its places, by region key and `background`.

    advantages: what the policy was trained with; phi: 0..25; rewards: R_r in [0, 1]; None or absent where missing.
    """

    image: ImageU8
    advantages: Mapping[str, float | None]
    phi: Mapping[str, float | None]
    rewards: Mapping[str, float | None]


@dataclass(frozen=True)
class SheetRow:
    """One request and its samples. source: HWC uint8; samples of another size are brought to the source's."""

    instruction: str
    source: ImageU8
    regions: tuple[SheetRegion, ...]
    samples: tuple[SheetSample, ...]


def mean_reward(sample: SheetSample) -> float | None:
    """The mean of R_r over the edit regions; None where one is missing or there is none."""
    rewards = [reward for key, reward in sample.rewards.items() if key != BACKGROUND]
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known and len(known) == len(rewards) else None


def ranked_samples(samples: Sequence[SheetSample], most: int) -> list[tuple[str, SheetSample]]:
    """(caption, sample): evenly over the ranks by mean reward, the unscored last, in their order."""
    means = [mean_reward(sample) for sample in samples]
    order = sorted(range(len(samples)), key=lambda i: (means[i] is None, -(means[i] or 0.0), i))
    n = len(order)
    ranks = range(n) if n <= most else sorted({round(k * (n - 1) / max(1, most - 1)) for k in range(most)})
    named = []
    for rank in ranks:
        place = f"rank {rank + 1} of {n}"
        name = f"best of {n}" if rank == 0 and n > 1 else f"worst of {n}" if 0 < rank == n - 1 else place
        named.append((name if means[order[rank]] is not None else "not scored", samples[order[rank]]))
    return named
