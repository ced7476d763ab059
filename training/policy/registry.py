"""Policies by their spec, `name` or `name:place`; what a name needs is imported only when it is asked for.

| spec | policy |
|---|---|
| `tiny` | FLUX.2's classes, small, with the weights that come with the product: procedural scenes alone trained it |
| `tiny:FOLDER` | the same with other weights of `training.policy.tiny.pretrain` |
| `klein:FOLDER` | FLUX.2-klein base, 4B or 9B, from a local checkpoint |
"""

from typing import TYPE_CHECKING

from runtime.specs import parse_spec
from training.policy.files import POLICIES, base_folder, fingerprint

if TYPE_CHECKING:
    from training.policy.flux2 import Flux2Policy


def make_policy(
    spec: str,
    *,
    rank: int,
    alpha: int,
    guidance: float | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    checkpointing: bool = False,
    seed: int = 0,
) -> "Flux2Policy":
    """The policy of a spec with a fresh adapter, which changes nothing yet.

    Raises: BadInput for a spec that is not known, misses its place, or names a bad one.
    """
    import torch

    from training.policy.flux2 import Flux2Policy, Flux2Settings, LoraSettings, load_pipeline, with_guidance

    name, _ = parse_spec(spec, POLICIES, "policy")
    folder = base_folder(spec)
    settings = Flux2Settings()
    if name == "tiny":
        from training.policy.tiny.model import TINY

        settings = TINY
    pipeline = load_pipeline(folder, getattr(torch, dtype))
    torch.manual_seed(seed)
    return Flux2Policy(
        pipeline,
        with_guidance(settings, guidance),
        LoraSettings(rank, alpha),
        name,
        fingerprint(folder),
        device=device,
        checkpointing=checkpointing,
    )
