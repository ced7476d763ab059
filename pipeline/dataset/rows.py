"""The row of one sample in the dataset: the JSON member, from the run's sample and the scores chosen for it."""

from collections.abc import Callable
from operator import attrgetter

from pipeline.dataset.scores import RegionScores, RowScores
from runtime.masks import MaskBool, mask_box, rle_to_mask
from schemas.dataset_row import DatasetRegion, DatasetRow, SyntheticPart
from schemas.geometry import CocoRle
from schemas.region import ObservedMask
from schemas.request import Split
from schemas.sample import Sample
from schemas.score import minimum, region_reward


def synthetic_parts(sample: Sample, scores: RowScores) -> tuple[SyntheticPart, ...]:
    """What of a row was made up by a program: its source, its edit, its scores."""
    made: dict[SyntheticPart, bool] = {
        "source": sample.request.synthetic,
        "edit": sample.candidate is not None and sample.candidate.synthetic,
        "scores": scores.synthetic,
    }
    return tuple(part for part, found in made.items() if found)


def dataset_row(sample: Sample, split: Split, scores: RowScores) -> DatasetRow:
    """The JSON member of a sample: request, candidate, regions and scores."""
    request, candidate = sample.request, sample.candidate
    if candidate is None:
        raise ValueError(f"{sample.key} has no candidate")
    made_up = synthetic_parts(sample, scores)
    return DatasetRow(
        key=sample.key,
        split=split,
        request=request.id,
        request_name=request.name,
        candidate=candidate.id,
        candidate_index=candidate.index,
        kind=request.kind,
        edit_type=request.edit_type,
        instruction=request.instruction,
        turns=request.turns,
        targets=request.targets,
        source_names=tuple(source.name for source in request.sources),
        source_pixels_sha256=tuple(source.pixels_sha256 for source in request.sources),
        edited_pixels_sha256=candidate.pixels_sha256,
        width_px=candidate.width_px,
        height_px=candidate.height_px,
        alignment=sample.alignment,
        unseen=sample.unseen,
        editor=candidate.editor,
        revision=candidate.revision,
        seed=candidate.seed,
        parameters=candidate.parameters,
        edits=candidate.edits,
        defects=candidate.defects,
        regions=tuple(_region(sample, observed, scores) for observed in sample.observed),
        background=scores.background,
        background_reward=region_reward(scores.background, scores.aesthetics),
        success=scores.success,
        overedit=scores.overedit,
        naturalness=scores.naturalness,
        artifacts=scores.artifacts,
        aesthetics=scores.aesthetics,
        spreads=dict(scores.spreads),
        rater=scores.rater,
        measures=sample.measures,
        synthetic=bool(made_up),
        synthetic_parts=made_up,
    )


def row_fault(row: DatasetRow, masks: Callable[[CocoRle], MaskBool] = rle_to_mask) -> str | None:
    """Which field does not follow from the others as it should, or None. masks: what decodes a mask."""
    expected: dict[str, object] = {
        "key": f"{row.request}-{row.candidate}",
        "aesthetics": minimum(row.naturalness, row.artifacts),
        "background_reward": region_reward(row.background, row.aesthetics),
        "synthetic": bool(row.synthetic_parts),
    }
    if row.unseen is not None and rle_to_mask(row.unseen).shape != (row.height_px, row.width_px):
        return f"unseen is of {row.unseen.size}, the row of {(row.height_px, row.width_px)}"
    for name, value in expected.items():
        if getattr(row, name) != value:
            return f"{name} is {getattr(row, name)}, the row says {value}"
    if row.rater is None and (score := _a_score(row)):
        return f"nobody scored it, and {score} is there"
    if len({region.region for region in row.regions}) < len(row.regions):
        return "two of its regions have one id"
    faults = (_region_fault(region, row, masks) for region in row.regions)
    return next((f"region {number}: {fault}" for number, fault in enumerate(faults, 1) if fault), None)


def _a_score(row: DatasetRow) -> str | None:
    """The name of a score that is there, the image's before those of regions."""
    of_image = ("background", "success", "overedit", "naturalness", "artifacts")
    scores = {name: getattr(row, name) for name in of_image}
    for region in row.regions:
        scores |= {f"{name} of {region.region}": getattr(region, name) for name in ("success", "preserve")}
    return next((name for name, value in scores.items() if value is not None), None)


def _region_fault(region: DatasetRegion, row: DatasetRow, masks: Callable[[CocoRle], MaskBool]) -> str | None:
    mask = masks(region.mask)
    phi = minimum(region.success, region.preserve)
    expected: dict[str, object] = {
        "mask.size": (row.height_px, row.width_px),
        "area_px": int(mask.sum()),
        "box": mask_box(mask),
        "phi": phi,
        "reward": region_reward(phi, row.aesthetics),
    }
    for name, value in expected.items():
        if (found := attrgetter(name)(region)) != value:
            return f"{name} is {found}, its row, mask and scores say {value}"
    return None


def _region(sample: Sample, observed: ObservedMask, scores: RowScores) -> DatasetRegion:
    planned = next((region for region in sample.planned if region.id == observed.region), None)
    score = scores.regions.get(observed.region, RegionScores(None, None))
    return DatasetRegion(
        region=observed.region,
        label=planned.label if planned else "changed but not named",
        role=planned.role if planned else None,
        status=observed.status,
        origin=observed.origin,
        frame=observed.frame,
        planned_box=planned.box if planned else None,
        box=observed.box,
        area_px=observed.area_px,
        confidence=observed.confidence,
        mask=observed.mask,
        success=score.success,
        preserve=score.preserve,
        phi=score.phi,
        reward=region_reward(score.phi, scores.aesthetics),
        spreads=dict(score.spreads),
    )
