"""How a command shows what it did."""

import json
from collections.abc import Mapping

from rich.console import Console


def show_facts(facts: Mapping[str, object], as_json: bool) -> None:
    """Facts for a person, or as one JSON object."""
    if as_json:
        print(json.dumps(facts))
        return
    console = Console()
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {'-' if one is None else f'{one:.2f}'}" for key, one in value.items())
        console.print(f"{name:>13}  {shown}", highlight=False, markup=False, soft_wrap=True)
