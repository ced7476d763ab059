"""Fixed measures of a region, of `features`, as the network reads them: levelled, before the edit and after it."""

import torch
from torch import Tensor

from training.reward.features import DETAILS, PLACES
from training.reward.network_io import NetworkInputs

#: What the source shows of a region: colour inside, its spread, detail, and the colour around.
BEFORE = 3 + 3 + 3 + 3


def levelled(means: Tensor) -> Tensor:
    """Means of the fixed measures, all of about one size: colours about 0, amounts of detail by their logarithm."""
    colours, amounts, signed = means[..., :6], means[..., 6 : DETAILS - 1], means[..., DETAILS - 1 :]
    return torch.cat([4 * (colours - 0.5), as_ratio(amounts), 2 * signed], dim=-1)


def as_ratio(amounts: Tensor) -> Tensor:
    """Amounts 0..1 by their logarithm: twice the noise is as far from once as four times is from twice."""
    return torch.log(amounts + 0.01) + 2.3


def before_edit(inputs: NetworkInputs) -> Tensor:
    """(B, R + 1, BEFORE): what the source alone shows of each row."""
    inside, around = inputs.means[:, :, 0], inputs.means[:, :, PLACES - 1]
    return torch.cat([inside[..., :3], inputs.spreads[:, :, 0, :3], inside[..., [9, 12, 15]], around[..., :3]], dim=-1)


def after_edit(inputs: NetworkInputs) -> Tensor:
    """(B, R + 1, EXPECTED): what the edited image shows of each row, and how it differs from the source there."""
    inside, core, rim = (inputs.means[:, :, place] for place in (0, 1, 3))
    return torch.cat(
        [
            inside[..., 3:6],
            core[..., 3:6],
            inputs.spreads[:, :, 0, 3:6],
            inside[..., [10, 13, 16]],
            inside[..., [6, 7, 8, 11, 19, 20]],
            rim[..., [11, 19, 20]],
        ],
        dim=-1,
    )
