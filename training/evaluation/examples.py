"""The predictions of a reward for each test case, as `predictions.jsonl`, with pictures of the best and the worst."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.files import write_whole
from runtime.images import encode_image
from runtime.masks import mask_to_rle
from schemas.reward import BACKGROUND, ExamplePlace, PredictedScore, RewardExample
from training.evaluation.localisation_cases import DefectCase
from training.predictions import phi_of
from training.reward_protocol import Prediction

PICTURED = 6


def write_examples(folder: Path, cases: Sequence[DefectCase], predictions: Sequence[Prediction]) -> Path:
    """Writes `predictions.jsonl`, and `pictures/` for the six largest and the six smallest margins.

    Of one source one example is pictured at either end, so that they differ. Returns: the path of the list.
    """
    examples = [example(case, found) for case, found in zip(cases, predictions, strict=True)]
    pictured = _ends([(one.margin, case.source) for one, case in zip(examples, cases, strict=True)])
    lines = []
    for number, (one, case) in enumerate(zip(examples, cases, strict=True)):
        if number in pictured:
            one = _with_pictures(folder, one, case)
        lines.append(one.model_dump_json())
    path = folder / "predictions.jsonl"
    write_whole(path, "".join(line + "\n" for line in lines))
    return path


def example(case: DefectCase, prediction: Prediction) -> RewardExample:
    """What `prediction` says of each place of a case, beside the truth."""
    found = {key: phi_of(prediction, key) for key in case.verdicts}
    outside = ~np.logical_or.reduce(list(case.query.masks.values()))
    places = tuple(
        ExamplePlace(
            key=key,
            label=case.labels.get(key, BACKGROUND),
            defective=flawed,
            phi=PredictedScore(mean=found[key].mean, std=found[key].std),
            true_phi=case.true_phi[key],
            mask=mask_to_rle(case.query.masks.get(key, outside)),
        )
        for key, flawed in case.verdicts.items()
    )
    sound = [found[key].mean for key, flawed in case.verdicts.items() if flawed is False]
    here = found[case.place].mean
    known = [score for score in sound if score is not None]
    margin = min(known) - here if here is not None and known and len(known) == len(sound) else None
    return RewardExample(
        key=case.key,
        instruction=case.query.instruction,
        defect=case.defect.kind,
        strength=case.defect.strength,
        places=places,
        margin=margin,
    )


def _ends(margins: Sequence[tuple[float | None, str]]) -> set[int]:
    """The examples to show: the largest and the smallest margins, one of a source at either end."""
    known = [(margin, number) for number, (margin, _) in enumerate(margins) if margin is not None]
    chosen: set[int] = set()
    for order in (sorted(known), sorted(known, reverse=True)):
        sources: set[str] = set()
        for _, number in order:
            if len(sources) < PICTURED and margins[number][1] not in sources:
                sources.add(margins[number][1])
                chosen.add(number)
    return chosen


def _with_pictures(folder: Path, one: RewardExample, case: DefectCase) -> RewardExample:
    names = {}
    for name, image in (("source_picture", case.query.source), ("edited_picture", case.query.edited)):
        names[name] = f"pictures/{case.key}-{name.partition('_')[0]}.png"
        write_whole(folder / names[name], encode_image(image, "png"))
    return one.model_copy(update=names)
