"""Loss metrics of an update: means over micro-batches, steps and processes; clip fractions by step and region.

Every process calls these with the same arguments but its own pieces, an idle one with none.
"""

from collections.abc import Sequence

import torch
from accelerate import Accelerator

from training.policy.processes.exchange import sum_over_processes
from training.policy.update import Logged


def mean_figures(logged: Sequence[Logged], accelerator: Accelerator) -> dict[str, float]:
    """Weighted means over pieces, steps and processes of what the losses log, clip fractions inside and outside.

    The KL's are over the pieces where it was measured; the whole-image loss has one region, and no background.
    """
    names = (
        "loss", "clip_fraction/regions", "clip_fraction/background", "step_kl/inside", "step_kl/outside",
        "kl/inside", "kl/outside",
    )  # fmt: skip
    rows = []
    for piece in logged:
        f, edits = piece.figures, max(1, len(piece.figures.n_regions) - 1)
        clipped = (f.clip_fraction * f.n_regions)[:, :edits].sum() / f.n_regions[:edits].sum().clamp(min=1)
        measures = (f.approx_kl_inside, f.approx_kl_outside, f.kl_inside, f.kl_outside)
        values = [
            piece.loss,
            float(clipped),
            float(f.clip_fraction[:, edits:].sum()),
            *(float(m.mean()) for m in measures),
        ]
        weights = [piece.weight] * 5 + [piece.kl_weight] * 2
        rows.append([w * value for w, value in zip(weights, values, strict=True)] + weights)
    sums = torch.tensor(rows, device=accelerator.device).reshape(len(rows), 2 * len(names)).sum(dim=0)
    sums = sum_over_processes(sums, accelerator)
    means = sums[: len(names)] / sums[len(names) :].clamp(min=1e-12)
    return dict(zip(names, means.tolist(), strict=True))


def clip_fractions(
    logged: Sequence[Logged], steps: Sequence[int], columns: int, accelerator: Accelerator
) -> dict[str, float]:
    """Clip fractions by trained step and region; those that no rollout of the update has are left out.

    steps: numbers of the trained steps in a rollout; columns: R of the figures, 1 for the whole-image loss.
    Returns: `clip_at_step_T/region_R`, `.../background`, or `.../image` for one column.
    """
    sums = torch.zeros(2, len(steps), columns, dtype=torch.float64)
    for piece in logged:
        weights = piece.weight * piece.figures.n_regions.double().cpu()
        sums[0, piece.place] += weights * piece.figures.clip_fraction[0].double().cpu()
        sums[1, piece.place] += weights
    clipped, counted = sum_over_processes(sums.to(accelerator.device), accelerator).tolist()
    names = ["image"] if columns == 1 else [*(f"region_{number}" for number in range(columns - 1)), "background"]
    return {
        f"clip_at_step_{step}/{name}": clipped[row][column] / counted[row][column]
        for row, step in enumerate(steps)
        for column, name in enumerate(names)
        if counted[row][column] > 0
    }
