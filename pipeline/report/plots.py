"""Small inline SVG plots with two axes: curves over steps, points against a diagonal, an estimate with its interval."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10

from markupsafe import Markup

from pipeline.report.svg import NOTHING, grid_line, svg, text

WIDTH, HEIGHT = 300, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 8, 34
N_COLOURS = 7
INTERVAL_WIDTH, INTERVAL_HEIGHT = 150, 18

Point = tuple[float, float]


def curves(series: Mapping[str, Sequence[Point]], x_label: str) -> Markup:
    """One line for each name over the same axes; the y axis begins at 0, or below where values do."""
    points = [point for line in series.values() for point in line]
    if not points:
        return NOTHING
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    below = -_round_up(-lowest) if lowest < 0 else 0.0
    axes = _Axes(0, max(x for x, _ in points) or 1, below, _round_up(highest) if highest > 0 or not below else 0.0)
    lines = [
        Markup('<polyline class="curve c{}" points="{}"><title>{}</title></polyline>').format(
            number % N_COLOURS, " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line), name
        )
        for number, (name, line) in enumerate(series.items())
    ]
    last = ", ".join(f"{name} ends at {line[-1][1]:.3g}" for name, line in series.items() if line)
    return axes.svg(f"{x_label}: {last}", x_label, Markup("").join(lines))


def against_diagonal(points: Sequence[tuple[float, float, int]], high: float, x_label: str, y_label: str) -> Markup:
    """Points (x, y, n) over equal axes 0..`high`, with the diagonal on which they should lie; area by n."""
    if not points:
        return NOTHING
    axes = _Axes(0, high, 0, high)
    most = max(n for *_, n in points)
    parts = [
        Markup('<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
            axes.x(0), axes.y(0), axes.x(high), axes.y(high)
        )
    ]
    for x, y, n in points:
        radius = 2 + 4 * (n / most) ** 0.5
        circle = '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{:.3g}, {:.3g} ({:,})</title></circle>'
        parts.append(Markup(circle).format(axes.x(x), axes.y(y), radius, x, y, n))
    spoken = ", ".join(f"{x:.3g} to {y:.3g}" for x, y, _ in points)
    return axes.svg(f"{y_label} by {x_label}: {spoken}", x_label, Markup("").join(parts), y_label)


def interval(value: float, low: float | None, high: float | None, chance: float = 0.5) -> Markup:
    """An estimate on 0..1 as a dot with its interval, and a line at chance. What lies outside stands at the edge."""
    x, y = _across(value), INTERVAL_HEIGHT / 2
    whisker = Markup("")
    if low is not None and high is not None:
        whisker = Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(
            _across(low), _across(high), y=y
        )
    middle = _across(chance)
    return Markup(
        '<svg class="interval" viewBox="0 0 {} {}" role="img" aria-label="{:.3f}{}">'
        '<line class="grid" x1="4" x2="{}" y1="{y}" y2="{y}"/>'
        '<line class="diagonal" x1="{middle}" x2="{middle}" y1="2" y2="{bottom}"/>{}'
        '<circle class="dot" cx="{:.1f}" cy="{y}" r="4"/></svg>'
    ).format(
        INTERVAL_WIDTH,
        INTERVAL_HEIGHT,
        value,
        "" if low is None or high is None else f", interval {low:.3f} to {high:.3f}",
        INTERVAL_WIDTH - 4,
        whisker,
        x,
        y=y,
        middle=middle,
        bottom=INTERVAL_HEIGHT - 2,
    )


def _across(value: float) -> float:
    return min(1.0, max(0.0, value)) * (INTERVAL_WIDTH - 8) + 4


class _Axes:
    """Two linear axes with ticks at both ends and in the middle."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self._x, self._y = (x_low, x_high), (y_low, y_high)

    def x(self, value: float) -> float:
        """Where a value lies across."""
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value lies down; values outside lie on the edge."""
        low, high = self._y
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def svg(self, spoken: str, x_label: str, inside: Markup, y_label: str = "") -> Markup:
        """The whole plot."""
        parts = []
        for value in _ticks(self._y):
            y = self.y(value)
            parts.append(grid_line(LEFT, WIDTH - RIGHT, y))
            parts.append(text(LEFT - 4, y + 4, f"{value:g}", "end"))
        for value, anchor in zip(_ticks(self._x), ("start", "middle", "end"), strict=True):
            parts.append(text(self.x(value), HEIGHT - BOTTOM + 13, f"{value:g}", anchor))
        parts.append(text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 5, x_label, "middle"))
        if y_label:
            parts.append(text(LEFT + 4, TOP + 10, y_label, "start"))
        return svg(WIDTH, HEIGHT, spoken, *parts, inside)


def _ticks(ends: tuple[float, float]) -> tuple[float, float, float]:
    return ends[0], (ends[0] + ends[1]) / 2, ends[1]


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    digit = next((step for step in (1, 2, 4, 5, 6, 8, 10) if step >= value / unit - 1e-9), ceil(value / unit))
    return digit * unit
