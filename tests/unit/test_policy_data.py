from pathlib import Path

from training.policy.data import load_cases


def test_x(plain_dataset: Path, random_policy: Path) -> None:
    a, x = load_cases(plain_dataset, "train")
    b, y = load_cases(plain_dataset, "validation")
    print(len(a), len(b), x, y, [len(c.masks) for c in a], [c.wanted is not None for c in a], a[0].source.shape)
    print(sorted(p.name for p in random_policy.iterdir()))
