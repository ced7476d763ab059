"""A dataset as the library of the Hub reads it, as JSON: run by the environment of `make loaders`, without regionwise.

python read_with_datasets.py FOLDER
"""

import json
import sys
from typing import Any

import datasets


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """A row with mode, size and sum of its images in place of their pixels."""
    images = {name: value for name, value in row.items() if "." in name}
    shown = {name: value and [value.mode, *value.size, sum(value.tobytes())] for name, value in images.items()}
    return {"key": row["__key__"], "row": row["json"], "images": shown}


def main(folder: str) -> None:
    """Both ways, every split."""
    found = {}
    for streaming in (False, True):
        splits = datasets.load_dataset(folder, streaming=streaming)
        found[str(streaming)] = {name: [summary(row) for row in rows] for name, rows in splits.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
