"""Made-up masks and annotations with masks that the tests of matching, agreement and consensus share."""

from collections.abc import Mapping

import numpy as np

from runtime.masks import mask_to_rle
from schemas.geometry import CocoRle
from schemas.region import ObservedMask
from schemas.score import Annotation
from tests.cases.rater_cases import annotation, scores

CANDIDATE = "c" * 16


def box_rle(x1: int, y1: int, x2: int, y2: int, side_px: int = 40) -> CocoRle:
    """A filled box in a square image."""
    mask = np.zeros((side_px, side_px), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask_to_rle(mask)


def outlined(rater: str, masks: Mapping[str, CocoRle], score: int = 13, scored: bool = True) -> Annotation:
    """One rater's annotation with these masks by region, all scored alike or not at all."""
    found = scores(score, CANDIDATE, list(masks) if scored else [], rater)
    observed = tuple(
        ObservedMask(
            candidate=CANDIDATE,
            region=key,
            origin="annotator",
            status="unplanned" if key.startswith("extra-") else "changed",
            mask=mask,
            box=None,
            area_px=0,
            confidence=1,
        )
        for key, mask in masks.items()
    )
    return annotation(found, masks=observed)
