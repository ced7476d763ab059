"""The losses of a region reward: small pure functions on tensors. A mask tells what is missing and has no gradient.

| symbol | here | meaning |
|---|---|---|
| mu | `mean` | predicted score, any unit as long as it is the scores' own |
| s^2 | `log_variance` | log of the predicted variance, in that unit squared |

Every function returns one mean over what is present, and 0 (with a gradient of 0) where nothing is. float32.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Scores = Float[Tensor, "*S"]
Present = Bool[Tensor, "*S"]
Mean = Float[Tensor, ""]


def masked_mean(values: Scores, present: Present) -> Mean:
    """The mean of `values` where `present`; 0 where nothing is. Missing values may be NaN.

    Shapes: both the same, any; present: bool. Returns: scalar.
    """
    kept = torch.where(present, values, torch.zeros_like(values))
    return kept.sum() / present.sum().clamp(min=1)


def filled(scores: Scores, present: Present) -> Scores:
    """`scores` with 0 where nothing is present, so that a NaN there reaches no gradient."""
    return torch.where(present, scores, torch.zeros_like(scores))


def share_loss(logit: Scores, share: Scores, present: Present) -> Mean:
    """Regression of scores as shares of the full score: the cross-entropy whose minimum is sigmoid(logit) = mean share.

    share: 0..1. Source: fractional logit, Papke and Wooldridge 1996; its gradient does not die near full score.
    """
    losses = functional.binary_cross_entropy_with_logits(logit, filled(share, present), reduction="none")
    return masked_mean(losses, present)


def gaussian_nll(mean: Scores, log_variance: Scores, scores: Scores, present: Present) -> Mean:
    """Negative log-likelihood of `scores` under N(mean, exp(log_variance)), without its constant.

    Give a detached `mean` to fit the variance alone.
    """
    error = filled(scores, present) - mean
    return masked_mean(0.5 * (log_variance + error.square() * torch.exp(-log_variance)), present)


def bradley_terry(winner: Scores, loser: Scores, present: Present) -> Mean:
    """-log sigmoid(r_w - r_l) over pairs. Source: method of Bradley and Terry 1952."""
    return masked_mean(-functional.logsigmoid(winner - loser), present)


def uncertain_ranking(mean_gap: Scores, variance: Scores, noise: Float[Tensor, " draws *S"], present: Present) -> Mean:
    """-log mean sigmoid(z), z ~ N(mu_w - mu_l, s_w^2 + s_l^2), over samples of z.

    The mean stands inside the logarithm: -mean log sigmoid(z) grows with s whatever the gap (Jensen), so s would
    collapse; here a wrong order is the cheaper, the surer the network is that it does not know.

    Shapes: mean_gap, variance, present (...); noise (S, ...), standard normal.
    """
    z = mean_gap + variance.clamp(min=1e-12).sqrt() * noise
    log_mean = torch.logsumexp(functional.logsigmoid(z), dim=0) - torch.log(torch.tensor(float(noise.shape[0])))
    return masked_mean(-log_mean, present)
