"""Plots of a training's log: every metric over updates, and several arms compared, with their confidence bands.

A log is JSON Lines, one object an update. Its nested objects and lists are figures of one name with a part each:
`{"update": 3, "clip_fraction": {"edit": 0.1, "background": 0.2}}` or `"clip_fraction/edit": 0.1` alike. Figures of one
name share a plot. What is no finite number leaves a gap. Drawn by matplotlib without a display, and the same arguments
give the same bytes on one machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.bootstrap import HIGH_PERCENT, LOW_PERCENT
from runtime.files import write_whole
from schemas.record import short_hash

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

UPDATE = ("update", "step")
COLUMNS, MOST_LINES, MOST_PLOTS, MAX_DEPTH = 4, 7, 60, 6
SMOOTHED_FROM = 30
#: The colours of lines, told apart without colour sight, too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
INK, SOFT, RULE = "#1b1d21", "#60666f", "#dcddd8"
#: name -> (title, what it says); plots stand in this order, names that are not here after them.
TITLES: dict[str, tuple[str, str]] = {
    "reward": ("Reward", "mean R, 0 to 1"),
    "phi": ("φ / 25", "lower of success and preserve, 0 to 1"),
    "all_right": ("All regions right", "share of requests"),
    "zero_std_ratio": ("Groups without spread", "share with equal rewards"),
    "clip_fraction": ("Clipped", "share of ratios"),
    "kl": ("KL to the reference", "nats a position"),
    "loss": ("Loss", ""),
    "gradient_norm": ("Gradient norm", "before clipping"),
    "tokens_per_s": ("Speed", "tokens a second"),
}


@dataclass(frozen=True)
class Line:
    """One figure over updates. part: '' for a figure without parts; x, y: (N,), y NaN in gaps."""

    name: str
    part: str
    x: Floats
    y: Floats


def lines_of(figures: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Every figure that has a finite value somewhere, in the order of `TITLES`, then of first appearance.

    Rows of one update are one. A line has a point for every update that has its figure, in the order of updates.
    """
    rows: dict[float, dict[str, float]] = {}
    for number, row in enumerate(figures):
        flat = dict(_flat(row))
        rows.setdefault(_update(flat, number), {}).update(flat)
    names = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name not in UPDATE]
    lines = []
    for name in names:
        own = [update for update in sorted(rows) if name in rows[update]]
        y = np.array([rows[update][name] for update in own], dtype=np.float64)
        if not np.isnan(y).all():
            head, _, part = name.partition("/")
            lines.append(Line(head, part, np.array(own, dtype=np.float64), y))
    order = {name: place for place, name in enumerate(TITLES)}
    return sorted(lines, key=lambda line: order.get(line.name, len(order)))


def _update(row: Mapping[str, float], number: int) -> float:
    return next((row[name] for name in UPDATE if isfinite(row.get(name, np.nan))), float(number))


def _flat(value: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """(name with its parts, number) of everything in a row; NaN for what is missing or not finite."""
    if isinstance(value, Mapping | list | tuple) and depth < MAX_DEPTH:
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, part in parts:
            yield from _flat(part, f"{prefix}/{name}" if prefix else str(name), depth + 1)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield prefix, np.nan if value is None or not (abs(value) < 1e300 and isfinite(value)) else float(value)


def curves(figures: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> Path:
    """Writes a grid of plots of all logged figures over updates as PNG. Returns: `path`.

    Raises: ValueError where no figure has a value.
    """
    groups: dict[str, list[Line]] = {}
    for line in lines_of(figures):
        groups.setdefault(line.name, []).append(line)
    if not groups:
        raise ValueError("the log has no figure to draw")
    shown = list(groups.items())[:MOST_PLOTS]
    figure, axes = _grid(len(shown), title)
    for axis, (name, lines) in zip(axes, shown, strict=True):
        _draw(axis, name, lines)
    for axis in axes[-min(COLUMNS, len(shown)) :]:
        axis.set_xlabel("update", fontsize=7.5, color=SOFT)
    write_whole(path, _png(figure))
    return path


@dataclass(frozen=True)
class _PlotBox:
    """One plot's place, in inches: its size, and the room left of it, above it and below it."""

    width: float
    height: float
    left: float
    above: float
    below: float


SMALL, LARGE = _PlotBox(2.85, 1.75, 0.6, 0.5, 0.42), _PlotBox(4.7, 2.7, 0.62, 0.55, 0.55)
HEAD_IN, FOOT_IN, MARGIN_IN = 0.42, 0.4, 0.15


def _grid(count: int, title: str, box: _PlotBox = SMALL, foot_in: float = 0.0) -> "tuple[Figure, list[Axes]]":
    """A figure with `count` plots of one size, `foot_in` free at its bottom. Placed by hand: layout is slow."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, count)
    rows = ceil(count / columns)
    head = HEAD_IN if title else 0.0
    cell = box.left + box.width, box.above + box.height + box.below
    width, height = cell[0] * columns + 2 * MARGIN_IN, cell[1] * rows + head + foot_in + MARGIN_IN
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    if title:
        style: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": 13, "fontweight": "bold", "color": INK}
        figure.text(2 * MARGIN_IN / width, 1 - 0.16 / height, _plain(title, int(9 * width)), **style)
    axes = []
    for place in range(count):
        row, column = divmod(place, columns)
        left = MARGIN_IN + column * cell[0] + box.left
        bottom = height - head - row * cell[1] - box.above - box.height
        axes.append(figure.add_axes((left / width, bottom / height, box.width / width, box.height / height)))
    return figure, axes


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plain(text: str, length: int) -> str:
    """`text` for matplotlib: no formulas, nothing unprintable, not too long."""
    shown = "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def _axis(axis: "Axes", title: str, note: str) -> None:
    """The frame of one plot: title above, a light grid, no box."""
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(RULE)
    axis.set_axisbelow(True)
    axis.grid(True, axis="y", color=RULE, linewidth=0.6)
    axis.tick_params(labelsize=7.5, colors=SOFT, length=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axis.set_title(_plain(title, 40), loc="left", fontsize=10, fontweight="bold", color=INK, pad=15 if note else 5)
    if note:
        axis.text(0, 1.025, _plain(note, 60), transform=axis.transAxes, fontsize=7.5, color=SOFT, va="bottom")


def _draw(axis: "Axes", name: str, lines: Sequence[Line]) -> None:
    title, note = TITLES.get(name, (name.replace("_", " ").capitalize(), ""))
    shown = lines[:MOST_LINES]
    if len(lines) > len(shown):
        note = f"{note + ', ' if note else ''}{len(shown)} of {len(lines)} parts"
    _axis(axis, title, note)
    for line, colour in zip(shown, COLOURS, strict=False):
        long = len(line.y) >= SMOOTHED_FROM
        label = _plain(line.part.replace("_", " ").replace("/", " "), 24) or "_"
        marker = "o" if len(line.y) == 1 else None
        axis.plot(
            line.x, line.y, color=colour, linewidth=0.8 if long else 1.5, alpha=0.3 if long else 1,
            marker=marker, markersize=3, label="_raw" if long else label,
        )  # fmt: skip
        if long:
            axis.plot(line.x, smoothed(line.y), color=colour, linewidth=1.7, label=label)
    if any(line.part for line in shown):
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.09 * ceil(len(shown) / 3) * (high - low))  # room for the names of the parts
        axis.legend(
            fontsize=7, frameon=False, labelcolor=INK, handlelength=1.1, ncols=3, columnspacing=1, loc="upper left"
        )


def smoothed(values: Floats, width: int | None = None) -> Floats:
    """The mean (N,) of the values around each (a tenth of them, at least 3), NaN left out; NaN where all are."""
    width = width or max(3, len(values) // 10)
    kernel, known = np.ones(width), ~np.isnan(values)
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    count = np.convolve(known.astype(np.float64), kernel, "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison. updates: (U,); figures: name -> (U, seeds, requests), NaN where missing."""

    updates: Floats
    figures: Mapping[str, Floats]


@dataclass(frozen=True)
class Band:
    """A mean over updates with its 95 % band, each (U,)."""

    mean: Floats
    low: Floats
    high: Floats


def band(values: Floats, samples: int = 1000, seed: int = 0) -> Band:
    """The mean over seeds and requests of (U, seeds, requests), both drawn anew with replacement; NaN is left out.

    One draw serves all updates, so that a band is of one curve. Raises: ValueError for another shape.
    """
    if values.ndim != 3 or not values.size:
        raise ValueError(f"figures of an arm are (updates, seeds, requests), not {values.shape}")
    _, seeds, requests = values.shape
    rng = np.random.default_rng(int(short_hash("arms", seed, seeds, requests, samples), 16))
    by_seed, by_request = (_draws(rng, count, samples) for count in (seeds, requests))
    known = (~np.isnan(values)).astype(np.float64)
    sums = _weighted(np.nan_to_num(values) * known, by_seed, by_request)
    counts = _weighted(known, by_seed, by_request)
    means = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), np.nan)
    return Band(means[:, 0], *_percentiles(means[:, 1:]))


def _draws(rng: np.random.Generator, count: int, samples: int) -> Floats:
    """Weights (1 + samples, count): ones, then how often each is drawn."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=samples).astype(np.float64)
    return np.concatenate([np.ones((1, count)), drawn])


def _weighted(values: Floats, by_seed: Floats, by_request: Floats) -> Floats:
    """(U, B) sums of values (U, S, N) by both weights."""
    over_seeds = np.einsum("usn,bs->ubn", values, by_seed)
    return np.asarray(np.einsum("ubn,bn->ub", over_seeds, by_request), dtype=np.float64)


def _percentiles(means: Floats) -> tuple[Floats, Floats]:
    low, high = np.full(len(means), np.nan), np.full(len(means), np.nan)
    for place, row in enumerate(means):
        drawn = row[~np.isnan(row)]
        if len(drawn):
            low[place], high[place] = np.percentile(drawn, [LOW_PERCENT, HIGH_PERCENT])
    return low, high


def comparison_plot(
    arms: Mapping[str, Arm], path: Path, *, title: str = "", note: str = "", samples: int = 1000, seed: int = 0
) -> Path:
    """Writes one plot for each figure of the arms, a line with its 95 % band for each arm, as PNG. Returns: `path`.

    note: what stands below the title of each plot, as "16 requests, 3 seeds". Raises: ValueError without an arm, and
    where the shapes of an arm do not fit.
    """
    names = list(dict.fromkeys(name for arm in arms.values() for name in arm.figures))
    if not names or len(arms) > len(COLOURS):
        raise ValueError(f"a comparison has 1 to {len(COLOURS)} arms with figures")
    figure, axes = _grid(len(names), title, LARGE, FOOT_IN)
    for axis, name in zip(axes, names, strict=True):
        _axis(axis, TITLES.get(name, (name.replace("_", " "), ""))[0], note)
        for (arm_name, arm), colour in zip(arms.items(), COLOURS, strict=False):
            if name in arm.figures:
                _draw_arm(axis, arm_name, arm, band(arm.figures[name], samples, seed), colour)
        axis.set_xlabel("update", fontsize=8, color=SOFT)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", ncols=4, fontsize=9, frameon=False, labelcolor=INK)
    write_whole(path, _png(figure))
    return path


def _draw_arm(axis: "Axes", name: str, arm: Arm, found: Band, colour: str) -> None:
    if len(arm.updates) != len(found.mean):
        raise ValueError(f"arm {name}: {len(arm.updates)} updates, figures of {len(found.mean)}")
    axis.fill_between(arm.updates, found.low, found.high, color=colour, alpha=0.14, linewidth=0)
    axis.plot(arm.updates, found.mean, color=colour, linewidth=2, label=_plain(name, 40))
