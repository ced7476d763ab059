"""`python -m benchmarks.near_duplicates`: what it costs to compare candidates only where they are near.

5,000 pairs of edits of a source (`benchmarks.edit_cases`, part `test`), half of them within half and twice the
threshold by the full comparison: a copy with a patch, a drift, noise or compression of a drawn strength; the others
copies and unlike edits. The figure is against the full comparison of every pair, which is the peer in time.
"""

import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.random import Generator

from benchmarks.edit_cases import EDITS, case_rng, edit_cases, jpeg
from benchmarks.result import row, write_result
from pipeline.gates.measures import DEFAULT, _difference, near_duplicates
from runtime.images import ImageU8

PAIRS = 5_000
SIZE_PX = 256
CASES_PER_OPERATION = 12
PEER = "every pair compared in full"


def near(image: ImageU8, rng: Generator) -> ImageU8:
    """The image with a patch, a drift, noise or compression of a drawn strength."""
    kind = int(rng.integers(4))
    if kind == 0:
        changed, side = image.copy(), int(rng.integers(3, 14))
        y, x = (int(rng.integers(0, SIZE_PX - side)) for _ in range(2))
        changed[y : y + side, x : x + side] = rng.integers(0, 256, 3)
        return changed
    values = image.astype(np.float32)
    if kind == 1:
        values += rng.uniform(-8, 8, 3)
    elif kind == 2:
        values += rng.normal(0, rng.uniform(0, 14), image.shape)
    else:
        return jpeg(image, int(rng.integers(8, 95)))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def pairs() -> Iterator[tuple[ImageU8, ImageU8, float]]:
    """Pairs with the value of the full comparison, half of them within .5 and 2 thresholds."""
    cases = [case for operation in EDITS for case in edit_cases("test", operation, CASES_PER_OPERATION, SIZE_PX)]
    close = other = index = 0
    while close < PAIRS // 2 or other < PAIRS // 2:
        rng = case_rng("near-duplicate", index)
        case, index = cases[index % len(cases)], index + 1
        first = case.clean
        second = near(first, rng) if rng.random() < 0.85 else near(case.source, rng)
        value = _difference(first, second, DEFAULT)
        within = 0.5 <= value / DEFAULT.min_change <= 2
        if within and close < PAIRS // 2:
            close += 1
        elif not within and other < PAIRS // 2:
            other += 1
        else:
            continue
        yield first, second, value


def main() -> None:
    """Measures, prints and writes benchmarks/results/near-duplicates.json."""
    cv2.setNumThreads(1)
    twins, found, ours_s, full_s = [], [], 0.0, 0.0
    for first, second, value in pairs():
        begun = time.process_time()
        result = near_duplicates([first, second])[1]
        ours_s += time.process_time() - begun
        begun = time.process_time()
        _difference(first, second, DEFAULT)
        full_s += time.process_time() - begun
        twins.append(value < DEFAULT.min_change)
        found.append(not result.passed)
    true, said = np.array(twins), np.array(found)
    both, why = int((true & said).sum()), "the full comparison is the truth"
    rows = [
        row("recall of twins", "share", both / int(true.sum()), limit=1.0, why=why),
        row("precision of twins", "share", both / int(said.sum()), limit=1.0, why=why),
        row(
            "time of these pairs", "ms a pair", 1e3 * ours_s / PAIRS, 1e3 * full_s / PAIRS, PEER, higher_is_better=False
        ),
    ]
    write_result("near-duplicates", rows, pairs=PAIRS, twins=int(true.sum()))


if __name__ == "__main__":
    main()
