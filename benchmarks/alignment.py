"""`python -m benchmarks.alignment`: how well the map from source to edited image is found, and when it is believed.

Edits of scenes and photographs that nothing was tuned on (`benchmarks.edit_cases`, part `test`), with a drift of
colour, moved by a map that is known, beyond whose edge there is a border, the mirrored picture or a repeated edge, and
through JPEG of quality 75 to 95. Error: mean distance of 81 points of the source from where they lie. Peer: SIFT
features, matched by Lowe's ratio, and a similarity by RANSAC (OpenCV).
"""

import time
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from benchmarks.edit_cases import EDITS, PHOTOS, EditCase, Part, case_rng, edit_cases, jpeg, photo_window
from benchmarks.result import row, write_result
from pipeline.regions.alignment import Map, align, matrix
from pipeline.regions.framing import MIN_AGREEMENT
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8
from schemas.alignment import Alignment

CASES_PER_OPERATION = 4
UNLIKE_IMAGES = 40
PEER = "SIFT and RANSAC"
BORDERS = (cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE)
WHITE = (255, 255, 255)
Drawn = Callable[[Generator, int], dict[str, float]]


def _zoom(share: float) -> Drawn:
    return lambda rng, side: {"scale": 1 + share * rng.choice((-1, 1))}


def _turn(degrees: float) -> Drawn:
    return lambda rng, side: {"degrees": degrees * rng.choice((-1, 1))}


def _shift(rng: Generator, side: int) -> dict[str, float]:
    return dict(zip(("dx_px", "dy_px"), rng.uniform(-0.05, 0.05, 2) * side, strict=True))


def _all(rng: Generator, side: int) -> dict[str, float]:
    turned = {"scale": 1 + rng.uniform(-0.1, 0.1), "degrees": rng.uniform(-2, 2), "shear": rng.uniform(-0.01, 0.01)}
    return _shift(rng, side) | turned | {"aspect": 1 + rng.uniform(-0.01, 0.01)}


#: Kinds of maps, each drawn anew for each case.
KINDS: dict[str, Drawn] = {
    "none": lambda rng, side: {},
    "zoom 1 %": _zoom(0.01),
    "zoom 2 %": _zoom(0.02),
    "zoom 5 %": _zoom(0.05),
    "zoom 10 %": _zoom(0.1),
    "turn 0.5 degrees": _turn(0.5),
    "turn 1 degree": _turn(1.0),
    "turn 2 degrees": _turn(2.0),
    "shift to 5 %": _shift,
    "all together": _all,
}


def moved_cases(part: Part, kind: str, size_px: int, per_operation: int) -> Iterator[tuple[EditCase, Map, ImageU8]]:
    """Edits with a map of one kind: the case, its map, and the edited image as a model would answer."""
    for operation in EDITS:
        for case in edit_cases(part, operation, per_operation, size_px):
            rng = case_rng("alignment", kind, case.name, size_px)
            asked = Alignment(**KINDS[kind](rng, size_px), agreement=None, residual_levels=None)
            there = matrix(asked, (size_px, size_px))
            border = BORDERS[int(rng.integers(len(BORDERS)))]
            drifted = np.clip(case.clean * rng.uniform(0.92, 1.08, 3) + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
            yield case, there, jpeg(warped(drifted, there, border), int(rng.integers(75, 96)))


def warped(image: ImageU8, there: Map, border: int) -> ImageU8:
    """An image moved by a map, as it is where the map is none."""
    if np.array_equal(there, np.eye(2, 3)):
        return image
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, there, size, flags=cv2.INTER_LANCZOS4, borderMode=border, borderValue=WHITE)
    return np.asarray(moved, dtype=np.uint8)


def error_px(found: Map, there: Map, size_px: int) -> float:
    """Mean distance of 81 points of the source from where they lie."""
    x, y = np.meshgrid(*[np.linspace(0, size_px - 1, 9)] * 2)
    points = np.column_stack([x.ravel(), y.ravel()])
    apart = points @ (found - there)[:, :2].T + (found - there)[:, 2]
    return float(np.linalg.norm(apart, axis=1).mean())


def by_features(source: ImageU8, edited: ImageU8) -> Map:
    """The peer's map; the identity where it finds none."""
    sift: Any = cv2.SIFT.create(nfeatures=1000)
    (points, words), (others, their_words) = (
        sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None) for image in (source, edited)
    )
    if words is None or their_words is None or min(len(points), len(others)) < 4:
        return np.eye(2, 3)
    pairs = [pair for pair in cv2.BFMatcher().knnMatch(words, their_words, k=2) if len(pair) == 2]
    good = [first for first, second in pairs if first.distance < 0.75 * second.distance]
    if len(good) < 4:
        return np.eye(2, 3)
    here = np.array([points[one.queryIdx].pt for one in good], dtype=np.float32)
    there = np.array([others[one.trainIdx].pt for one in good], dtype=np.float32)
    cv2.setRNGSeed(0)
    found = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)[0]
    return np.eye(2, 3) if found is None else np.asarray(found, dtype=np.float64)


def unlike_pairs(size_px: int) -> Iterator[tuple[ImageU8, ImageU8]]:
    """Pairs of test images that have nothing in common: windows of two photographs, scenes, and one of each."""
    images: list[tuple[str, ImageU8]] = []
    for index in range(UNLIKE_IMAGES):
        if index % 2:
            name = PHOTOS["test"][index // 2 % len(PHOTOS["test"])]
            images.append((name, photo_window(name, case_rng("unlike", index), size_px)))
        else:
            images.append((f"scene {index}", render_scene(303, index, size_px).image_hwc_u8))
    for (name, first), (other, second) in combinations(images, 2):
        if name != other:
            yield first, second


def main() -> None:
    """Measures, prints and writes benchmarks/results/alignment.json."""
    cv2.setNumThreads(1)
    rows, worst = [], {}
    for size_px in (256, 512):
        believed, times = [], []
        for kind in KINDS:
            errors, theirs = [], []
            for case, there, edited in moved_cases("test", kind, size_px, CASES_PER_OPERATION):
                begun = time.process_time()
                found = align(case.source, edited)
                times.append(time.process_time() - begun)
                errors.append(error_px(matrix(found, (size_px, size_px)), there, size_px))
                theirs.append(error_px(by_features(case.source, edited), there, size_px))
                believed.append((found.agreement or 0) >= MIN_AGREEMENT)
            for what, share, limit in (("median", 0.5, 0.3), ("95th percentile", 0.95, 1.0)):
                ours, peer = (float(np.quantile(values, share)) for values in (errors, theirs))
                name = f"{kind} at {size_px} px: {what} of the error"
                rows.append(row(name, "px", ours, peer, PEER, higher_is_better=False, limit=limit))
            worst[f"{kind} {size_px}"] = round(max(errors), 2)
        why = "no peer says it"
        rows.append(row(f"true pairs believed at {size_px} px", "share", float(np.mean(believed)), limit=0.95, why=why))
        unlike = [(align(*pair).agreement or 0) >= MIN_AGREEMENT for pair in unlike_pairs(size_px)]
        rows.append(row(f"unlike pairs believed at {size_px} px", "share", float(np.mean(unlike)), limit=0.01, why=why))
        rows.append(row(f"time at {size_px} px", "ms of CPU", 1e3 * float(np.median(times)), why="see build_cost"))
    write_result("alignment", rows, cases_per_kind=CASES_PER_OPERATION * len(EDITS), worst_px=worst)


if __name__ == "__main__":
    main()
