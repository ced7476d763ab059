"""Variations of a training item: its mirror image, another wording of its instruction, another instruction.

Mirrored items say "left" where they said "right", in their labels, too; those with lettering are not mirrored.
"""

import re
from dataclasses import replace

import numpy as np

from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.reward.data import TrainingItem
from training.reward.instruction_variants import SWAP_SHARE, Swap

_MIRRORED = {"left": "right", "right": "left"}
#: Whole words as `text_encoding` has them.
_DIRECTION = re.compile(r"(?<![a-z0-9])(left|right)(?=(most|wards?|hand|)(?![a-z0-9]))", re.IGNORECASE)
#: What is written in a picture stands in one of these, and does not read backwards.
_QUOTES = frozenset('"\u201c\u201d\u201e\u00ab\u00bb')


def mirrored_words(text: str) -> str:
    """An instruction, or a label, of what it says seen in a mirror; letters keep their case."""
    return _DIRECTION.sub(_other_side, text)


def _other_side(word: re.Match[str]) -> str:
    said = word.group()
    other = _MIRRORED[said.lower()]
    return other.upper() if said.isupper() else other.capitalize() if said[0].isupper() else other


def shows_lettering(text: str) -> bool:
    """Whether an instruction is about something written, which a mirror would make unreadable."""
    return not _QUOTES.isdisjoint(text)


def mirrored(item: TrainingItem) -> TrainingItem:
    """`item` seen in a mirror, its words too; an item with lettering is returned as it is."""
    features = item.features
    if shows_lettering(features.instruction):
        return item
    geometry = features.geometry.copy()
    geometry[:, 0] *= -1
    seen = replace(
        features,
        instruction=mirrored_words(features.instruction),
        source=features.source[:, ::-1],
        edited=features.edited[:, ::-1],
        maps=features.maps[:, ::-1],
        places=features.places[..., ::-1],
        geometry=geometry,
    )
    return replace(item, features=seen, labels=tuple(map(mirrored_words, item.labels)))


def varied(item: TrainingItem, rng: np.random.Generator) -> TrainingItem:
    """`item`, or its mirror image, in one of its wordings or under another instruction."""
    flip, wording = rng.random() < 0.5, int(rng.integers(len(item.wordings) + 1))
    swap = item.swaps[int(rng.integers(len(item.swaps)))] if item.swaps and rng.random() < SWAP_SHARE else None
    if swap is not None:
        item = swapped(item, swap)
    elif wording < len(item.wordings):
        item = replace(item, features=replace(item.features, instruction=item.wordings[wording]))
    return mirrored(item) if flip else item


def swapped(item: TrainingItem, swap: Swap) -> TrainingItem:
    """`item` judged under another instruction: a request of its own, and the whole image's success is not known."""
    region_scores, image_scores, asked = item.region_scores.copy(), item.image_scores.copy(), item.asked.copy()
    region_scores[swap.region, REGION_SCORES.index("success")] *= swap.success_left
    image_scores[IMAGE_SCORES.index("success")] = np.nan
    asked[swap.region] = swap.asked
    return replace(
        item,
        request=f"{item.request} {swap.instruction}",
        features=replace(item.features, instruction=swap.instruction),
        region_scores=region_scores,
        image_scores=image_scores,
        asked=asked,
    )
