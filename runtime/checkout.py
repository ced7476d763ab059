"""The checkout that this code runs from: its folder, and its commit, which results are signed with."""

import subprocess
from pathlib import Path

#: The folder that holds pyproject.toml.
CHECKOUT = Path(__file__).resolve().parent.parent


def checkout_commit() -> str | None:
    """The commit of the checkout in hex; None outside a repository, or without git."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
