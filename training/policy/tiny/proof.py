"""What the tiny policy can do before it is trained further, on scenes it never saw: figures, and a sheet to look at."""

from typing import Any

from training.evaluation.multi_edit import RIGHT_FROM
from training.policy.cases import PolicyCase, plain_case
from training.policy.protocol import Policy
from training.policy.rewards import OracleReward
from training.policy.sheets import SheetRegion, SheetRow, SheetSample
from training.policy.trial import CaseResult, edited, judged, summary

#: Scenes of no training and of no test during it.
PROOF_SEED = 33
SCENES, STEPS, SHEET_ROWS = 256, 8, 12


def proof(policy: Policy, scenes: int = SCENES) -> tuple[dict[str, Any], list[SheetRow]]:
    """(figures by number of regions with their chance level, rows of a sheet). Chance: the edits of other requests.

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
    rows = [_row(case, image, result) for case, image, result in zip(cases, images, results, strict=True)]
    return figures, rows[:SHEET_ROWS]


def _asking(case: PolicyCase, instruction: str) -> Any:
    return case.request.model_copy(update={"instruction": instruction})


def _row(case: PolicyCase, image: Any, result: CaseResult) -> SheetRow:
    regions = tuple(
        SheetRegion(key, target.label, mask)
        for (key, mask), target in zip(case.masks.items(), case.request.targets, strict=True)
    )
    phis = {key: None if phi is None else 25 * phi for key, phi in zip(case.masks, result.phis, strict=True)}
    rewards = dict(zip(case.masks, result.rewards, strict=True))
    return SheetRow(case.request.instruction, case.source, regions, (SheetSample(image, {}, phis, rewards),))
