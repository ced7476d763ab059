"""What the tiny policy can do before it is trained further, on scenes it never saw: figures and a picture."""

from collections.abc import Sequence
from io import BytesIO
from textwrap import fill
from typing import Any

import numpy as np

from runtime.images import ImageU8
from training.evaluation.multi_edit import RIGHT_FROM
from training.policy.edit_cases import PolicyCase, plain_case
from training.policy.held_out_evaluation import edited, judged, summary
from training.policy.protocol import Policy
from training.policy.rewards import OracleReward

#: Scenes of no training and of no test during it.
PROOF_SEED = 33
SCENES, STEPS, SHOWN, COLUMNS = 256, 8, 12, 3


def proof(policy: Policy, scenes: int = SCENES) -> tuple[dict[str, Any], bytes]:
    """(figures by number of regions with their chance level, the first edits as PNG).

    Chance says how often a region would be right if the policy had read another instruction: each case is scored with
    the edit that the policy makes of the same source for the next case's instruction.
    """
    cases = [plain_case(PROOF_SEED, index) for index in range(scenes)]
    images = edited(policy, cases, STEPS, 32)
    results = judged(policy, cases, images, OracleReward(), batch=32, timeout_s=600)
    others = [
        PolicyCase(_asking(case, other.request.instruction), case.source, case.masks, case.wanted)
        for case, other in zip(cases, cases[1:] + cases[:1], strict=True)
    ]
    by_chance = judged(policy, cases, edited(policy, others, STEPS, 32), OracleReward(), batch=32, timeout_s=600)
    untouched = judged(policy, cases, [case.source for case in cases], OracleReward(), batch=32, timeout_s=600)
    figures: dict[str, Any] = {"scenes": scenes, "right_from": RIGHT_FROM, "all": summary(results)}
    for number in (1, 2, 3):
        own = [place for place, case in enumerate(cases) if len(case.masks) == number]
        figures[f"{number} regions"] = {
            "requests": len(own),
            **summary([results[place] for place in own]),
            "region_right_other_instruction": summary([by_chance[place] for place in own])["region_right"],
            "region_right_untouched": summary([untouched[place] for place in own])["region_right"],
        }
    return figures, picture(cases[:SHOWN], images[:SHOWN])


def _asking(case: PolicyCase, instruction: str) -> Any:
    return case.request.model_copy(update={"instruction": instruction})


def picture(cases: Sequence[PolicyCase], images: Sequence[ImageU8]) -> bytes:
    """Each case's source beside its edit, below the instruction, as PNG."""
    from matplotlib.figure import Figure

    rows = -(-len(cases) // COLUMNS)
    figure = Figure(figsize=(4.6 * COLUMNS, 2.75 * rows), dpi=80, facecolor="white", layout="constrained")
    for place, (case, image) in enumerate(zip(cases, images, strict=True)):
        axis = figure.add_subplot(rows, COLUMNS, place + 1)
        gap = np.full((image.shape[0], 6, 3), 255, dtype=np.uint8)
        axis.imshow(np.concatenate([case.source, gap, image], axis=1), interpolation="nearest")
        axis.set_title(fill(case.request.instruction, 46), fontsize=10, loc="left")
        axis.set_axis_off()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
