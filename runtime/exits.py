"""How a process says what ended it: one line on stderr, and its exit code."""

import sys

from runtime.disk import told
from schemas.errors import RegionwiseError


def failed(error: RegionwiseError | OSError) -> int:
    """Says on one line what ended this process. Returns: its exit code."""
    said = told(error)
    print(f"regionwise: {said}", file=sys.stderr)
    return said.exit_code
