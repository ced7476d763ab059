"""What a policy is asked to edit: a request with its source, the masks of its planned regions and, if known, its goal.

Plain scenes as cases for pretraining and for proofs are here; cases of a run folder come from `training.policy.data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.editors.plan import make_plan
from pipeline.requests.scenes import PLAIN, scene_at, scene_edit_request
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.request import EditRequest

SIZE_PX = 128


@dataclass(frozen=True)
class PolicyCase:
    """One request for a policy. source: HWC uint8 RGB; masks: planned region id -> (H, W) bool in the source's frame.

    wanted: the goal, HWC uint8 of the source's size, where it is known by construction; else None.
    """

    request: EditRequest
    source: ImageU8
    masks: Mapping[str, MaskBool]
    wanted: ImageU8 | None = None

    @property
    def id(self) -> str:
        """The id of the request, by which rollouts are grouped."""
        return self.request.id


def plain_case(seed: int, index: int, size_px: int = SIZE_PX) -> PolicyCase:
    """Plain scene number `index` of `seed` as a case with its goal."""
    line, image = scene_at(seed, index, size_px, textures=(PLAIN,))
    request = scene_edit_request(line, image)
    plan = make_plan(request, [image])
    return PolicyCase(request, image, plan.masks(), plan.wanted)
