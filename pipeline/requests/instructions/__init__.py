"""Instructions: targets said in words (templates), words read as targets (rules), and a planner that places them."""

from pipeline.requests.instructions.named import CannotParse, Named, Parsed, Phrase, Place
from pipeline.requests.instructions.parse import parse_instruction
from pipeline.requests.instructions.templates import CLAUSES, instruction_for

__all__ = [
    "CLAUSES",
    "CannotParse",
    "Named",
    "Parsed",
    "Phrase",
    "Place",
    "instruction_for",
    "parse_instruction",
]
