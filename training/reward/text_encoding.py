"""Instructions as numbers: words and their parts hashed into one table of embeddings, so that no word is unknown.

A word's colour or shape has a bucket of its own; a misspelt or unseen one shares the buckets of its parts.
"""

import re
from functools import lru_cache
from zlib import crc32

import torch
from torch import Tensor

#: Bucket 0 is padding.
BUCKETS = 4096
PARTS = 10
MAX_WORDS = 96
_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


@lru_cache(maxsize=65_536)
def word_buckets(word: str) -> tuple[int, ...]:
    """The buckets of a word: its own, twice over two hashes, then those of its character trigrams; at most `PARTS`."""
    marked = f"<{word}>"
    trigrams = [marked[i : i + 3] for i in range(len(marked) - 2)] if len(word) > 1 else []
    names = [f"w:{word}", f"v:{word}", *(f"c:{trigram}" for trigram in trigrams)]
    return tuple(1 + crc32(name.encode()) % (BUCKETS - 1) for name in names[:PARTS])


def words_of(instruction: str) -> list[str]:
    """The words and signs of an instruction in lower case, at most `MAX_WORDS`."""
    return _WORD.findall(instruction.lower())[:MAX_WORDS]


def place_of(words: list[str], phrase: list[str]) -> range:
    """Where `phrase` first stands in `words`; empty where it does not."""
    for start in range(len(words) - len(phrase) + 1):
        if phrase and words[start : start + len(phrase)] == phrase:
            return range(start, start + len(phrase))
    return range(0)


def encode(instructions: list[str]) -> Tensor:
    """Buckets of every word: (B, T, PARTS) int64, 0 where there is none; T is the longest instruction, at least 1."""
    rows = [[word_buckets(word) for word in words_of(text)] for text in instructions]
    longest = max([1, *(len(row) for row in rows)])
    codes = torch.zeros(len(rows), longest, PARTS, dtype=torch.int64)
    for i, row in enumerate(rows):
        for t, buckets in enumerate(row):
            codes[i, t, : len(buckets)] = torch.tensor(buckets)
    return codes
