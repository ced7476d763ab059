"""`python -m benchmarks.gates`: precision and recall of every gate on labelled cases that set none of its thresholds.

Cases: `benchmarks.gate_cases`, part `test` (other photographs and other scenes than `tune`). Precision: of what a gate
dropped, the share that it should drop; recall: of what it should drop, the share that it dropped. Sizes and aspects are
dropped by definition. Near-duplicates across sources: copies of every image among different images, judged by cluster.
"""

import time
from collections import defaultdict
from typing import Any

import cv2
import imagehash
import numpy as np
from PIL import Image

from benchmarks.edit_cases import PHOTOS, SCENE_SEEDS, case_rng, jpeg, photo, shifted
from benchmarks.gate_cases import (
    SIZE_PX,
    GateCase,
    blank_cases,
    edit_gate_cases,
    near_duplicate_cases,
    size_cases,
)  # fmt: skip
from benchmarks.result import row, write_result
from pipeline.gates.duplicates import HASH_BYTES, cluster, perceptual_hash
from pipeline.gates.measures import GateSettings
from pipeline.requests.scenes import render_scene
from runtime.images import ImageU8, resize_image

REQUESTS = 50
SCENES_ACROSS = 100
PEER = "64-bit phash within 5 bits"
PEER_MAX_BITS = 5
#: (shall be dropped, was dropped) -> true or false, positive or negative.
OUTCOMES = {(True, True): "tp", (True, False): "fn", (False, True): "fp", (False, False): "tn"}
CLUSTER_KEYS = 260_000
CLUSTER_COPIES = 26_000


def counts(cases: list[GateCase]) -> dict[str, int]:
    """True and false positives and negatives; positive: dropped."""
    found: dict[str, int] = dict.fromkeys(OUTCOMES.values(), 0)
    for case in cases:
        found[OUTCOMES[case.dropped, not case.result.passed]] += 1
    return found


def by_kind(cases: list[GateCase]) -> dict[str, str]:
    """kind -> `dropped/all, should be dropped or kept`."""
    kinds: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for case in cases:
        kinds[case.kind, case.dropped].append(not case.result.passed)
    return {
        f"{kind}, to be {'dropped' if dropped else 'kept'}": f"{sum(found)} of {len(found)} dropped"
        for (kind, dropped), found in sorted(kinds.items())
    }


def different_images() -> list[ImageU8]:
    """Images that show different things: scenes, and the quarters of photographs."""
    images = [render_scene(SCENE_SEEDS["test"], 900 + index, SIZE_PX).image_hwc_u8 for index in range(SCENES_ACROSS)]
    for name in PHOTOS["test"]:
        whole = photo(name)
        side = min(whole.shape[:2]) // 2
        for y in (0, whole.shape[0] - side):
            images += [resize_image(whole[y : y + side, x : x + side].copy(), SIZE_PX, SIZE_PX)
                       for x in (0, whole.shape[1] - side)]  # fmt: skip
    return images


def copied(image: ImageU8, number: int) -> ImageU8:
    """A copy: scaled, brightened by up to 8 %, moved by up to 2 px, recompressed at quality 60..90; all of them."""
    rng = case_rng("across", number)
    moved: ImageU8 = shifted(image, float(rng.uniform(-2, 2)), float(rng.uniform(-2, 2)))
    bright = np.clip(moved * rng.uniform(0.92, 1.08), 0, 255).astype(np.uint8)
    side = int(SIZE_PX * rng.uniform(0.5, 1.5))
    return jpeg(resize_image(bright, side, side), int(rng.integers(60, 91)))


def across_sources() -> tuple[dict[str, int], dict[str, int]]:
    """(ours, the peer's) counts over pairs of images: a copy with its original shall be found, all others not."""
    images = different_images()
    everything = images + [copied(image, number) for number, image in enumerate(images)]
    clusters = cluster({number: perceptual_hash(image) for number, image in enumerate(everything)})
    hashes = [imagehash.phash(Image.fromarray(image, "RGB")) for image in everything]
    ours: dict[str, int] = defaultdict(int)
    peer: dict[str, int] = defaultdict(int)
    for first in range(len(everything)):
        for second in range(first + 1, len(everything)):
            same = second == first + len(images)
            for found, near in (
                (ours, clusters[first] == clusters[second]),
                (peer, hashes[first] - hashes[second] <= PEER_MAX_BITS),
            ):
                found[
                    {(True, True): "tp", (True, False): "fn", (False, True): "fp", (False, False): "tn"}[same, near]
                ] += 1
    return dict(ours), dict(peer)


def cluster_seconds() -> float:
    """Time to cluster 260,000 random hashes with 26,000 copies among them, s."""
    rng = case_rng("cluster")
    rows = rng.integers(0, 256, (CLUSTER_KEYS, HASH_BYTES), dtype=np.uint8)
    rows[:CLUSTER_COPIES] = rows[-CLUSTER_COPIES:]
    rows[:CLUSTER_COPIES, 0] ^= 3
    hashes = {number: bytes(values) for number, values in enumerate(rows)}
    begin = time.perf_counter()
    found = cluster(hashes)
    seconds = time.perf_counter() - begin
    if len(set(found.values())) != CLUSTER_KEYS - CLUSTER_COPIES:
        raise SystemExit("cluster: copies were missed or others taken for copies")
    return seconds


def main() -> None:
    """Measures, prints and writes benchmarks/results/gates.json."""
    cv2.setNumThreads(1)
    settings = GateSettings()
    cases = size_cases("test", 200, settings)
    cases["blank"] = blank_cases("test", 100, settings)
    cases |= edit_gate_cases("test", REQUESTS, settings)
    cases["near_duplicate"] = near_duplicate_cases("test", REQUESTS, settings)
    rows: list[dict[str, Any]] = []
    found = {gate: counts(listed) for gate, listed in cases.items()}
    ours, peer = across_sources()
    for gate, figures in found.items():
        rows += _rows(gate, figures)
    rows += _rows("near-duplicate across sources", ours, peer)
    rows.append(row(f"clustering {CLUSTER_KEYS:,} hashes", "s", cluster_seconds(), higher_is_better=False))
    found["near-duplicate across sources"] = ours
    kinds = {gate: by_kind(listed) for gate, listed in cases.items()}
    write_result("gates", rows, counts=found, kinds=kinds, photographs=PHOTOS, scene_seeds=SCENE_SEEDS)


def _rows(gate: str, ours: dict[str, int], peer: dict[str, int] | None = None) -> list[dict[str, Any]]:
    what = f"{gate} ({sum(ours.values())} cases)"
    rows = []
    for name, missed in (("precision", "fp"), ("recall", "fn")):
        peers = _share(peer, missed) if peer else None
        rows.append(row(f"{what}: {name}", "share", _share(ours, missed), peers, PEER if peer else None, limit=1.0))
    return rows


def _share(counted: dict[str, int], missed: str) -> float | None:
    total = counted.get("tp", 0) + counted.get(missed, 0)
    return counted.get("tp", 0) / total if total else None


if __name__ == "__main__":
    main()
