"""Small requests for the tests of the procedural editor: a drawn scene of 96 px, and scenes of the product."""

import cv2
import numpy as np

from pipeline.editors.protocol import candidate_record
from pipeline.requests.scenes import scene_at
from runtime.images import ImageU8, pixels_sha256
from runtime.masks import MaskBool, mask_to_rle
from schemas.candidate import Candidate
from schemas.geometry import Box
from schemas.request import EditRequest, RequestKind, Source, Target, request_id

SIDE = 96
DISC: Box = (14, 16, 46, 48)
BLOCK: Box = (56, 50, 86, 84)


def picture() -> ImageU8:
    """A soft, slightly textured ground with an orange disc and a dotted blue block."""
    ys, xs = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    image = np.stack([120 + 40 * np.sin(xs / 9), 140 + 22 * np.cos(ys / 2.5), 110 + xs / 2], axis=-1)
    image += np.random.default_rng(3).normal(0, 2, image.shape)
    image[disc()] = np.array([225, 120, 40]) + 25 * np.sin(ys[disc()] / 3)[:, None]
    image[block()] = (40, 70, 190)
    image[block() & ((xs + ys) % 8 < 4)] = (150, 180, 240)
    return cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.uint8), (0, 0), 0.6)


def disc() -> MaskBool:
    ys, xs = np.mgrid[0:SIDE, 0:SIDE]
    return np.hypot(xs - 29.5, ys - 31.5) <= 15.5


def block() -> MaskBool:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[BLOCK[1] : BLOCK[3], BLOCK[0] : BLOCK[2]] = True
    return mask


def disc_target(operation: str = "recolour", **fields: object) -> Target:
    base = {"label": "disc", "operation": operation, "box": DISC, "mask": mask_to_rle(disc())}
    return Target.model_validate(base | fields)


def block_target(operation: str = "texture", **fields: object) -> Target:
    base = {"label": "block", "operation": operation, "box": BLOCK, "mask": mask_to_rle(block())}
    return Target.model_validate(base | fields)


def request_of(
    targets: tuple[Target, ...],
    images: list[ImageU8],
    kind: RequestKind = "single",
    turns: tuple[str, ...] = (),
) -> EditRequest:
    digests = tuple(pixels_sha256(image) for image in images)
    sources = tuple(
        Source(
            name=f"image-{i}",
            origin_sha256=digest,
            pixels_sha256=digest,
            width_px=image.shape[1],
            height_px=image.shape[0],
        )
        for i, (digest, image) in enumerate(zip(digests, images, strict=True))
    )
    return EditRequest(
        id=request_id(digests, "Change it.", turns, targets),
        name="case",
        kind=kind,
        sources=sources,
        instruction="Change it.",
        turns=turns,
        targets=targets,
        edit_type="test",
        synthetic=True,
    )


def scene_request_of(index: int, size_px: int = 128, seed: int = 77) -> tuple[EditRequest, ImageU8]:
    line, image = scene_at(seed, index, size_px)
    return request_of(line.targets, [image]), image


def candidate_of(request: EditRequest, edit, index: int = 0) -> Candidate:
    return candidate_record(request, edit, index=index, editor="procedural", revision="1", synthetic=True)
