"""Small inline SVG charts of counts: histograms and bars with axes and labels."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from pipeline.report.svg import NOTHING, grid_line, svg, text

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 8, 30
ROW_HEIGHT, LABEL_WIDTH, COUNT_WIDTH = 20, 128, 52
MAX_LABEL_CHARS = 20


def histogram(values: Sequence[float], low: float, high: float, bins: int, x_label: str) -> Markup:
    """Counts of `values` in `bins` equal bins over [low, high]; values outside go to the first and last bin."""
    counts = [0] * bins
    for value in values:
        position = int((value - low) / (high - low) * bins)
        counts[min(bins - 1, max(0, position))] += 1
    width = (high - low) / bins
    names = [f"{low + i * width:g} to {low + (i + 1) * width:g}" for i in range(bins)]
    return _columns(counts, names, [(0.0, f"{low:g}"), (0.5, f"{(low + high) / 2:g}"), (1.0, f"{high:g}")], x_label)


def score_histogram(values: Sequence[float], highest: int, x_label: str) -> Markup:
    """How often each whole score 0..`highest` was given; means are counted at the nearest score."""
    counts = [0] * (highest + 1)
    for value in values:
        counts[min(highest, max(0, round(value)))] += 1
    ticks = [((score + 0.5) / (highest + 1), str(score)) for score in range(0, highest + 1, 5)]
    return _columns(counts, [str(score) for score in range(highest + 1)], ticks, x_label)


def binned(values: Sequence[float], edges: Sequence[float], x_label: str) -> Markup:
    """Counts of `values` between `edges` of unequal distance; values outside go to the first and last bin."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[max(0, sum(value >= edge for edge in edges[1:-1]))] += 1
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    ticks = [(index / len(counts), f"{edge:g}") for index, edge in enumerate(edges)]
    return _columns(counts, names, ticks, x_label)


def _columns(counts: list[int], names: list[str], ticks: list[tuple[float, str]], x_label: str) -> Markup:
    most = max(1, *counts)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = plot_width / len(counts)
    base = TOP + plot_height
    parts = [_grid(most, plot_height, base)]
    for index, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = count / most * plot_height
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {:,}</title></rect>'
            ).format(LEFT + index * step + 1, base - height, step - 2, height, name, count)
        )
    for share, name in ticks:
        x = LEFT + share * plot_width
        anchor = "end" if share == 1 else ("start" if share == 0 else "middle")
        parts.append(text(x, base + 13, name, anchor))
    parts.append(text(LEFT + plot_width / 2, HEIGHT - 3, x_label, "middle"))
    return svg(WIDTH, HEIGHT, f"{x_label}: {_spoken(counts, names)}", *parts)


def _grid(most: int, plot_height: float, base: float) -> Markup:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = base - share * plot_height
        lines.append(grid_line(LEFT, WIDTH - RIGHT, y))
        if share == 0 or most * share == int(most * share):
            lines.append(text(LEFT - 4, y + 4, _short(int(most * share)), "end"))
    return Markup("").join(lines)


def bars(counts: Mapping[str, int], x_label: str) -> Markup:
    """One horizontal bar for each name, in the order given."""
    if not counts:
        return NOTHING
    most = max(1, *counts.values())
    height = len(counts) * ROW_HEIGHT + 18
    room = WIDTH - LABEL_WIDTH - COUNT_WIDTH
    parts = []
    for index, (name, count) in enumerate(counts.items()):
        y = index * ROW_HEIGHT
        parts.append(text(LABEL_WIDTH - 6, y + 14, _clip(name), "end"))
        parts.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="{}"><title>{}: {:,}</title></rect>').format(
                LABEL_WIDTH, y + 3, max(1.0, count / most * room), ROW_HEIGHT - 6, name, count
            )
        )
        parts.append(text(LABEL_WIDTH + count / most * room + 5, y + 14, f"{count:,}", "start"))
    parts.append(text(LABEL_WIDTH, height - 4, x_label, "start"))
    return svg(WIDTH, height, f"{x_label}: {_spoken(list(counts.values()), list(counts))}", *parts)


def share_bar(kept: int, dropped: int) -> Markup:
    """A thin bar of what was kept against what was dropped."""
    total = max(1, kept + dropped)
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{:.0f} % kept">'
        '<rect class="lost" width="100" height="8"/><rect class="bar" width="{:.2f}" height="8"/></svg>'
    ).format(100 * kept / total, 100 * kept / total)


def _spoken(counts: Sequence[int], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True) if count)


def _clip(name: str) -> Markup:
    return escape(name if len(name) <= MAX_LABEL_CHARS else name[: MAX_LABEL_CHARS - 1] + "…")


def _short(count: int) -> str:
    return f"{count / 1000:.3g}k" if count >= 10_000 else f"{count:,}"
