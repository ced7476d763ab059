"""Images and prompts as segment-anything's Sam takes them: the package's own resizing, and the checks it leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.models.protocols import Prompt
from runtime.images import BadImage, ImageU8, pixels_sha256
from schemas.errors import BadInput

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam
    from torch import Tensor


@dataclass(frozen=True)
class PreparedImage:
    """An image as the encoder takes it. canvas: (3, S, S) uint8, the resized image in its upper left corner."""

    index: int
    sha256: str
    canvas: "Tensor"
    input_hw: tuple[int, int]
    image_hw: tuple[int, int]


@dataclass(frozen=True)
class PreparedPrompt:
    """One prompt in a batch. slot: which embedding of the batch; coordinates in the encoder's input."""

    image: PreparedImage
    slot: int
    number: int
    box: NDArray[np.float64] | None
    points: NDArray[np.float64]
    labels: NDArray[np.int64]


def prepare_image(images: Sequence[ImageU8], index: int, side: int, pinned: bool) -> PreparedImage:
    """Reads and resizes one image. Raises: BadImage, naming it."""
    import torch
    from segment_anything.utils.transforms import ResizeLongestSide

    image = images[index]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadImage("unreadable", f"image {index} is {image.dtype} {image.shape}, not HWC uint8 RGB")
    image_hw = (image.shape[0], image.shape[1])
    resize = ResizeLongestSide(side)
    input_hw = resize.get_preprocess_shape(*image_hw, side)
    if 0 in input_hw:
        raise BadImage(
            "too_narrow", f"image {index} is {image_hw[1]} x {image_hw[0]} px: nothing is left of it at {side} px"
        )
    canvas = torch.zeros((3, side, side), dtype=torch.uint8, pin_memory=pinned)
    canvas[:, : input_hw[0], : input_hw[1]] = torch.from_numpy(resize.apply_image(image)).permute(2, 0, 1)
    return PreparedImage(index, pixels_sha256(image), canvas, input_hw, image_hw)


def prepare_prompt(image: PreparedImage, slot: int, number: int, prompt: Prompt) -> PreparedPrompt:
    """A prompt in the encoder's input. Raises: BadInput for one that points at nothing."""
    (height, width), (input_height, input_width) = image.image_hw, image.input_hw
    scale = np.array([input_width / width, input_height / height])
    points = np.array([point[:2] for point in prompt.points], dtype=np.float64).reshape(-1, 2)
    corners = None if prompt.box is None else np.array(prompt.box, dtype=np.float64).reshape(2, 2)
    size = np.array([width, height])
    fault = None
    if corners is None and not len(points):
        fault = "has neither box nor points"
    elif not np.isfinite(points).all() or (points < 0).any() or (points > size).any():
        fault = f"has a point outside the image of {width} x {height} px"
    elif corners is not None and not (
        np.isfinite(corners).all()
        and (corners[0] < corners[1]).all()
        and (corners[0] < size).all()
        and (corners[1] > 0).all()
    ):
        fault = f"has a box {prompt.box} that covers nothing of the image of {width} x {height} px"
    if fault:
        raise BadInput(f"prompt {number} of image {image.index}", fault, "give pixels of the image, x1 < x2, y1 < y2")
    labels = np.array([int(point[2]) for point in prompt.points], dtype=np.int64)
    box = None if corners is None else (corners * scale).reshape(4)
    return PreparedPrompt(image, slot, number, box, points * scale, labels)


def prompt_tokens(sam: "Sam", prompts: Sequence[PreparedPrompt], device: "torch.device") -> "Tensor":
    """(P, T, C): prompts, which all have a box or none and the same number of points, as the decoder's tokens."""
    import torch

    boxes, points = None, None
    if prompts[0].box is not None:
        corners = np.stack([one.box for one in prompts if one.box is not None])
        boxes = torch.as_tensor(corners, dtype=torch.float32, device=device)
    if len(prompts[0].points):
        coordinates, labels = np.stack([one.points for one in prompts]), np.stack([one.labels for one in prompts])
        points = (
            torch.as_tensor(coordinates, dtype=torch.float32, device=device),
            torch.as_tensor(labels, dtype=torch.int32, device=device),
        )
    sparse: Tensor = sam.prompt_encoder(points=points, boxes=boxes, masks=None)[0]
    return sparse
