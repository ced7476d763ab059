"""A trained policy as an editor of the build, `policy:FOLDER`: what `train-policy` wrote, sampled by the ODE.

It edits one source by one instruction, and refuses what is more. Nothing is known of its edits by construction, so its
candidates come without scores: people, a reward or an oracle of pixels score them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from pydantic import ValidationError
from transformers.utils import logging as transformers_logging

from pipeline.editors.protocol import CannotEdit, Edit
from pipeline.models.devices import choose_device
from pipeline.models.revisions import file_sha256
from runtime.images import ImageU8, pixels_sha256
from schemas.errors import BadInput
from schemas.record import Scalar, first_fault, short_hash
from schemas.request import EditRequest
from training.policy.checkpoint import read_adapter, read_policy
from training.policy.config import PolicyConfig, found_settings
from training.policy.edit_cases import PolicyCase
from training.policy.files import check_base
from training.policy.protocol import Conditioning, Policy
from training.policy.registry import make_policy
from training.policy.sampling import sample_ode
from training.policy.token_masks import TokenGrid


def make_editor(place: str | None, device: str) -> "PolicyEditor":
    """The editor of a folder with policy.json and adapter.safetensors: base policy, adapter and sampling as trained.

    Raises: BadInput where there is none, where a file is damaged, where the base policy is not where it was or is
    another one, and where the adapter is of another model; NewerSchema.
    """
    if place is None:
        raise BadInput("editor policy", "does not say where it is", "write policy:RUN/policy/NAME")
    folder = Path(place)
    document = read_policy(folder / "policy.json")
    try:
        config = PolicyConfig.model_validate(found_settings(dict(document.get("config") or {}), folder))
    except ValidationError as error:
        raise BadInput(str(folder / "policy.json"), first_fault(error), "train the policy anew") from None
    check_base(folder, document, config.policy)
    with _without_bars():
        policy = make_policy(
            config.policy,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            guidance=config.guidance,
            dtype=config.dtype,
            device=str(choose_device(device, "editor policy")),
        )
    adapter = folder / "adapter.safetensors"
    read_adapter(adapter, policy.trained())
    updates = document.get("updates")
    parameters: dict[str, Scalar] = {"guidance": policy.settings.guidance}
    parameters |= {"updates": updates} if isinstance(updates, int) else {}
    revision = f"{policy.revision}-{file_sha256(adapter)[:16]}"
    return PolicyEditor(policy, revision, config.evaluation_steps, parameters)


class PolicyEditor:
    """A `pipeline.editors.protocol.Editor`. revision: of base and adapter; parameters: recorded beside the sampling."""

    def __init__(self, policy: Policy, revision: str, steps: int, parameters: dict[str, Scalar]) -> None:
        self.name, self.revision, self.synthetic = f"policy:{policy.name}", revision, policy.synthetic
        self._policy, self._steps = policy, steps
        self._parameters = {"sampler": "ode", "steps": steps, **parameters}
        self._last: tuple[tuple[str, str], Conditioning] | None = None

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """Candidate `index`, from noise that hangs on request, index and seed; the same pixels on the same device.

        Raises: CannotEdit for several sources or turns, a size that the policy refuses, an instruction too long for it.
        """
        source = _only_source(request, sources)
        height, width = source.shape[:2]
        try:
            grid = self._policy.token_grid(width, height)
        except BadInput as error:
            raise CannotEdit("refused_size", f"{error.thing} {error.fault}") from None
        with _one_thread():
            seen = self._seen(PolicyCase(request, source, {}))
            stream = torch.Generator().manual_seed(int(short_hash("policy-edit", request.id, index, seed), 16) >> 1)
            latents = sample_ode(self._policy, seen, [stream], self._steps)
            (shown,) = self._policy.decode(latents, grid)
        return Edit(image=put_back(source, shown, grid), seed=seed, parameters=dict(self._parameters))

    def _seen(self, case: PolicyCase) -> Conditioning:
        """Source and instruction, encoded once for the candidates of a request."""
        key = case.id, pixels_sha256(case.source)
        if self._last is None or self._last[0] != key:
            try:
                self._last = key, self._policy.encode([case])
            except BadInput as error:
                raise CannotEdit("long_instruction", f"{error.thing} {error.fault}") from None
        return self._last[1]


def _only_source(request: EditRequest, sources: list[ImageU8]) -> ImageU8:
    if request.kind == "multi_turn":
        raise CannotEdit("several_turns", f"a policy edits by one instruction, not by {len(request.turns)} turns")
    if len(sources) != 1:
        raise CannotEdit("several_sources", f"a policy edits one source, not {len(sources)}")
    return sources[0]


def put_back(source: ImageU8, shown: ImageU8, grid: TokenGrid) -> ImageU8:
    """Pastes the policy's image back into its crop of the source, at the source's size; the border stays.

    source: HWC uint8; shown: in the size of the grid's crop.
    """
    left, top, right, bottom = _crop_box(grid)
    size = grid.resized_width_px, grid.resized_height_px
    scaled = source if size == source.shape[1::-1] else cv2.resize(source, size, interpolation=cv2.INTER_AREA)
    canvas = np.array(scaled)
    canvas[grid.top_px : grid.top_px + grid.height_px, grid.left_px : grid.left_px + grid.width_px] = shown
    if size != source.shape[1::-1]:
        canvas = cv2.resize(canvas, source.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    image = np.array(source)
    image[top:bottom, left:right] = canvas[top:bottom, left:right]
    return image


def _crop_box(grid: TokenGrid) -> tuple[int, int, int, int]:
    """The pixels of the source that lie in the grid's crop whole: x1, y1, x2, y2, half-open."""
    across, down = grid.source_width_px / grid.resized_width_px, grid.source_height_px / grid.resized_height_px
    right, bottom = grid.left_px + grid.width_px, grid.top_px + grid.height_px
    return ceil(grid.left_px * across), ceil(grid.top_px * down), floor(right * across), floor(bottom * down)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Context without the progress bars of loading models: a build has its own."""
    before = [(bars, bars.is_progress_bar_enabled()) for bars in (diffusers_logging, transformers_logging)]
    for bars, _ in before:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        for bars, shown in before:
            if shown:
                bars.enable_progress_bar()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Context with one torch thread, so that sums have the same order in every process of a build."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
