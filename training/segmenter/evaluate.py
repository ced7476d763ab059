"""Evaluates `sam:tiny` on held-out pictures: `python -m training.segmenter.evaluate`.

Through segment-anything's own `SamPredictor`, one prompt a thing, the mask that the model itself rates best, beside
filling the box and GrabCut (OpenCV) from the same box. Means with 95 % intervals over pictures, by size of the thing.
Writes a table, a JSON file beside the weights and, with --sheet, a picture of the worst, median and best cases.
Not covered: real things on photographs, of which there are no exact masks here.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from runtime.bootstrap import estimate, resamples, weighted_means
from runtime.checkout import CHECKOUT
from runtime.exits import failed
from runtime.files import write_whole
from runtime.images import ImageU8
from runtime.masks import MaskBool, mask_box
from schemas.errors import RegionwiseError
from training.segmenter.batches import box_prompt, point_prompt
from training.segmenter.checkpoint import load_weights, read_metadata
from training.segmenter.data import (
    HELD_OUT_PHOTOS,
    HELD_OUT_SEED,
    HELD_OUT_TEXTURES,
    KINDS,
    SIZE_PX,
    Example,
    Kind,
    make_example,
)

SCHEMA = "segmenter-metrics/1"
WEIGHTS = CHECKOUT / "pipeline" / "models" / "weights" / "sam_tiny.safetensors"
#: Least mean IoU from tight boxes that the weights are shipped for.
GOAL = 0.85
#: COCO's classes: the side in px of the square that a class ends at.
SIZE_ENDS = {"small": 32, "medium": 96, "large": 10_000}
_GRABCUT_ROUNDS = 5
_BOOTSTRAPS = 2_000


@dataclass(frozen=True)
class ObjectResult:
    """One object of a held-out picture. ious: method -> IoU. mask_hw: what `sam:tiny` made of the tight box."""

    kind: Kind
    picture: int
    image_hwc_u8: ImageU8
    truth_hw: MaskBool
    mask_hw: MaskBool
    ious: Mapping[str, float]

    @property
    def size(self) -> str:
        """The size class, by the area of the true mask."""
        return next(name for name, side_px in SIZE_ENDS.items() if self.truth_hw.sum() < side_px**2)


def held_out_examples(pictures: int, seed: int = HELD_OUT_SEED) -> Iterator[Example]:
    """`pictures` pictures of each kind, of textures, photographs and a seed that training never sees."""
    for kind in KINDS:
        for index in range(pictures):
            yield make_example(kind, seed, index, held_out=True)


class Prompted:
    """A Sam behind the package's own predictor: for each picture, masks from boxes and points."""

    def __init__(self, weights: Path) -> None:
        from segment_anything import SamPredictor

        self.predictor = SamPredictor(load_weights(weights))

    def look(self, image: ImageU8) -> None:
        """Embeds a picture."""
        self.predictor.set_image(image)

    def from_box(self, box_xyxy_px: np.ndarray[Any, Any]) -> MaskBool:
        """The mask that the model rates best, of the picture last looked at."""
        masks, rated, _ = self.predictor.predict(box=box_xyxy_px, multimask_output=True)
        return np.asarray(masks[int(np.argmax(rated))], dtype=np.bool_)

    def from_point(self, point_xy_px: np.ndarray[Any, Any]) -> MaskBool:
        """As `from_box`, from one point on the thing."""
        masks, rated, _ = self.predictor.predict(
            point_coords=point_xy_px[None], point_labels=np.ones(1), multimask_output=True
        )
        return np.asarray(masks[int(np.argmax(rated))], dtype=np.bool_)


def measure(model: Prompted, examples: Iterator[Example], seed: int = HELD_OUT_SEED) -> list[ObjectResult]:
    """The result of every method on every object of every picture."""
    cases = []
    for picture, example in enumerate(examples):
        model.look(example.image_hwc_u8)
        rng = np.random.default_rng((seed, picture))
        for truth in example.masks():
            tight = box_prompt(truth, rng, exact_share=1.0)
            found = model.from_box(tight)
            masks = {
                "sam:tiny": found,
                "box filled": filled_box(example.image_hwc_u8, tight),
                "GrabCut": grabcut(example.image_hwc_u8, tight),
                "sam:tiny, box off": model.from_box(box_prompt(truth, rng, exact_share=0.0)),
                "sam:tiny, a point": model.from_point(point_prompt(truth, rng)[:2]),
            }
            ious = {way: mask_iou(mask, truth) for way, mask in masks.items()}
            cases.append(ObjectResult(example.kind, picture, example.image_hwc_u8, truth, found, ious))
    return cases


def filled_box(image: ImageU8, box_xyxy_px: np.ndarray[Any, Any]) -> MaskBool:
    """The box itself as a mask."""
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    x1, y1, x2, y2 = np.round(box_xyxy_px).astype(int)
    mask[y1:y2, x1:x2] = True
    return mask


def grabcut(image: ImageU8, box_xyxy_px: np.ndarray[Any, Any]) -> MaskBool:
    """OpenCV's GrabCut, started from the box, the same each time; what it leaves empty stays empty."""
    cv2.setRNGSeed(0)
    x1, y1, x2, y2 = (int(value) for value in np.round(box_xyxy_px))
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    inner, outer = np.zeros((1, 65)), np.zeros((1, 65))
    rectangle = (x1, y1, x2 - x1, y2 - y1)
    cv2.grabCut(image[:, :, ::-1].copy(), labels, rectangle, inner, outer, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_RECT)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), dtype=np.bool_)


def mask_iou(a: MaskBool, b: MaskBool) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def summary(cases: Sequence[ObjectResult], seed: int = HELD_OUT_SEED) -> list[dict[str, Any]]:
    """Mean IoU of every method with its interval over pictures: all, by kind, by size, and by both."""
    pictures = {picture: place for place, picture in enumerate(dict.fromkeys(case.picture for case in cases))}
    weights = resamples(len(pictures), _BOOTSTRAPS, seed)
    rows = []
    for kind in ("all", *KINDS):
        for size in ("all", *SIZE_ENDS):
            chosen = [case for case in cases if kind in ("all", case.kind) and size in ("all", case.size)]
            if not chosen:
                continue
            drawn = weights[:, [pictures[case.picture] for case in chosen]]
            ways = {
                way: asdict(estimate(weighted_means(np.array([case.ious[way] for case in chosen]), drawn)))
                for way in chosen[0].ious
            }
            held = len({case.picture for case in chosen})
            rows.append({"data": kind, "size": size, "things": len(chosen), "pictures": held, "mean_iou": ways})
    return rows


def contact_sheet(cases: Sequence[ObjectResult], each: int = 8) -> ImageU8:
    """Worst, median and best cases of each kind, a row each: true edge green, the model's magenta, box white."""
    rows = []
    for kind in KINDS:
        ranked = sorted((case for case in cases if case.kind == kind), key=lambda case: case.ious["sam:tiny"])
        middle = max(0, len(ranked) // 2 - each // 2)
        for chosen in (ranked[:each], ranked[middle : middle + each], ranked[-each:]):
            tiles = [_tile(case) for case in chosen]
            tiles += [np.zeros_like(tiles[0])] * (each - len(tiles))
            rows.append(np.hstack(tiles))
    return np.vstack(rows)


def _tile(case: ObjectResult) -> ImageU8:
    """The surroundings of the thing, enlarged to 256 px."""
    box = mask_box(case.truth_hw)
    assert box is not None, "every case has a thing"
    side = min(SIZE_PX, int(1.5 * max(box[2] - box[0], box[3] - box[1])) + 8)
    x, y = (int(np.clip((box[k] + box[k + 2] - side) // 2, 0, SIZE_PX - side)) for k in (0, 1))
    window = np.s_[y : y + side, x : x + side]
    scale = SIZE_PX / side

    def enlarged(mask: MaskBool) -> ImageU8:
        size = (SIZE_PX, SIZE_PX)
        return np.asarray(cv2.resize(mask[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))

    image = cv2.resize(case.image_hwc_u8[window], (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    for mask, colour in ((case.truth_hw, (0, 255, 0)), (case.mask_hw, (255, 0, 255))):
        edges, _ = cv2.findContours(enlarged(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, edges, -1, colour, 2)
    corners = [(round((box[k] - x) * scale), round((box[k + 1] - y) * scale)) for k in (0, 2)]
    cv2.rectangle(image, corners[0], corners[1], (255, 255, 255), 1)
    cv2.putText(image, f"{case.ious['sam:tiny']:.2f}", (4, 250), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 0), 2)
    return np.asarray(image, dtype=np.uint8)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """The summary on the terminal."""
    ways = list(rows[0]["mean_iou"])
    table = Table("data", "size", "things", *ways, title="mean IoU [95 % interval over pictures]")
    for row in rows:
        table.add_row(row["data"], row["size"], str(row["things"]), *(_cell(row["mean_iou"][way]) for way in ways))
    Console(width=160).print(table)


def _cell(figure: Mapping[str, float | None]) -> str:
    if figure["value"] is None or figure["low"] is None or figure["high"] is None:
        return "-"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns: exit code 0; 1 where the mean IoU is below `GOAL`; that of an error, with one line."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="a safetensors file of the training")
    parser.add_argument("--pictures", type=int, default=80, help="pictures of each kind")
    parser.add_argument("--json", type=Path, default=None, help="where the metrics go; else beside the weights")
    parser.add_argument("--sheet", type=Path, default=None, help="a PNG of the worst, median and best cases")
    given = parser.parse_args(arguments)
    try:
        cases = measure(Prompted(given.weights), held_out_examples(given.pictures))
        made = read_metadata(given.weights)
        reached = _report(given, cases, made)
    except (RegionwiseError, OSError) as error:
        return failed(error)
    return 0 if reached >= GOAL else 1


def _report(given: argparse.Namespace, cases: Sequence[ObjectResult], made: dict[str, str]) -> float:
    """Prints and writes what was measured; returns the mean IoU."""
    rows = summary(cases)
    print_table(rows)
    reached: float = rows[0]["mean_iou"]["sam:tiny"]["value"]
    document = {
        "schema": SCHEMA,
        "weights_sha256": sha256(given.weights.read_bytes()).hexdigest(),
        "weights_bytes": given.weights.stat().st_size,
        "made": made,
        "held_out": {
            "seed": HELD_OUT_SEED,
            "pictures_of_each_kind": given.pictures,
            "textures": list(HELD_OUT_TEXTURES),
            "photographs": [name.rpartition("/")[2] for name in HELD_OUT_PHOTOS],
            "size_ends_px": SIZE_ENDS,
        },
        "goal": GOAL,
        "reached": reached,
        "rows": rows,
    }
    path = given.json or given.weights.with_suffix(".json")
    write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    if given.sheet is not None:
        done, data = cv2.imencode(".png", np.ascontiguousarray(contact_sheet(cases)[:, :, ::-1]))
        assert done, "OpenCV writes PNG"
        write_whole(given.sheet, data.tobytes())
    return reached


if __name__ == "__main__":
    sys.exit(main())
