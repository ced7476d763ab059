"""The parts that every inline SVG of the report is drawn with.

Presentation attributes and classes only, so that a strict content policy lets them through; everything from outside is
escaped.
"""

from markupsafe import Markup

NOTHING = Markup('<p class="quiet">none</p>')


def svg(width: int, height: int, spoken: str, *inside: Markup) -> Markup:
    """A drawing of that size. spoken: what a screen reader says of it."""
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, spoken, Markup("").join(inside)
    )


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """Words at a point. anchor: which end of them lies there, `start`, `middle` or `end`."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)


def grid_line(left: float, right: float, y: float) -> Markup:
    """A level line of the grid."""
    return Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(left, right, y, y)
