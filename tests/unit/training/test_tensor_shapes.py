"""Shapes are checked while tests run: a tensor of a wrong shape or type is refused where a function takes it."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from training.policy.advantages import group_advantages, mixed_advantages
from training.policy.flow_sde import log_prob, sde_mean_std
from training.policy.objective import region_log_probs
from training.policy.token_masks import RegionBatch, effective_tokens
from training.reward.losses import masked_mean, uncertain_ranking

#: What a wrong shape raises: of an argument, or of a field.
Refused = (TypeCheckError, BeartypeCallHintViolation)


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


GAPS = ones(4), ones(4)


@pytest.mark.parametrize(
    ("call", "right", "wrong"),
    [
        (group_advantages, (ones(4), torch.zeros(4).long()), (ones(4), torch.zeros(1).long())),
        (group_advantages, (ones(4), torch.zeros(4).long()), (ones(4), ones(4))),
        (mixed_advantages, (ones(4, 3), ones(4), 0.5), (ones(4, 3), ones(3), 0.5)),
        (sde_mean_std, (ones(2, 5, 3), ones(2, 5, 3), 0.5, 0.25, 0.1), (ones(2, 5, 3), ones(2, 1, 3), 0.5, 0.25, 0.1)),
        (log_prob, (ones(2, 5, 3), ones(2, 5, 3), 0.5), (ones(2, 5, 3), ones(5, 3), 0.5)),
        (region_log_probs, (ones(2, 4, 5), ones(2, 3, 5)), (ones(2, 4, 5), ones(1, 3, 5))),
        (RegionBatch, (ones(2, 3, 5), ones(2, 5).bool()), (ones(2, 3, 5), ones(2, 3).bool())),
        (RegionBatch, (ones(2, 3, 5), ones(2, 5).bool()), (ones(2, 3, 5), ones(2, 5))),
        (effective_tokens, (ones(3, 5),), (ones(3, 5).long(),)),
        (masked_mean, (ones(4), ones(4).bool()), (ones(4), ones(1).bool())),
        (uncertain_ranking, (*GAPS, ones(8, 4), ones(4).bool()), (*GAPS, ones(8, 1), ones(4).bool())),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused(call, right, wrong) -> None:
    call(*right)
    with pytest.raises(Refused):
        call(*wrong)
