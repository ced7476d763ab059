"""Sheets and curves of a policy's training: what stands where, what is missing, that nothing runs out of it."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.images import ImageU8
from runtime.masks import MaskBool
from training.pictures import curves as pictures_curves
from training.pictures.advantage_colours import SCALE, advantage_colour
from training.pictures.curves import MOST_PLOTS, Arm, band, comparison_plot, curves, lines_of, smoothed
from training.pictures.drawing import PAPER
from training.pictures.sheet_rows import SheetRegion, SheetRow, SheetSample, mean_reward
from training.pictures.sheets import sheet, sheet_png
from training.pictures.text import clipped, sheet_font, wrapped

SIDE = 64
CUP, LID = "a" * 16, "b" * 16


def picture(level: int = 128, side: int = SIDE) -> ImageU8:
    return np.full((side, side, 3), level, dtype=np.uint8)


def square(x: int, y: int, size: int, side: int = SIDE) -> MaskBool:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[y : y + size, x : x + size] = True
    return mask


def opened(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes()))


def sample(reward: float | None, advantage: float | None = 0.0, level: int = 128) -> SheetSample:
    places = {CUP: advantage, LID: -2.0, "background": 2.0}
    return SheetSample(picture(level), places, {CUP: 20.0}, {CUP: reward, LID: reward})


def row(*samples: SheetSample, instruction: str = "Turn the cup red.") -> SheetRow:
    regions = (SheetRegion(CUP, "cup", square(4, 4, 24)), SheetRegion(LID, "lid", square(36, 36, 24)))
    return SheetRow(instruction, picture(), regions, samples)


def distance(pixel: tuple[int, ...], colour: tuple[int, ...]) -> int:
    return max(abs(int(a) - int(b)) for a, b in zip(pixel, colour, strict=True))


def test_advantages_have_their_colours() -> None:
    assert advantage_colour(-2.0, 2.0) == SCALE[0]
    assert advantage_colour(0.0, 2.0) == SCALE[2]
    assert advantage_colour(1.0, 2.0) == SCALE[3]
    assert advantage_colour(9.0, 2.0) == SCALE[4]


def _tile_at(column: int, x: int, y: int) -> tuple[int, int]:
    """Where pixel (x, y) of the second picture of a column of `row` stands: 64 px are drawn four times as large."""
    left = 28 + column * (256 + 14)
    top = 74 + 16 + 25 + 24 + 256 + 7
    return left + 4 * x, top + 4 * y


def test_painted_regions_are_where_the_masks_are() -> None:
    page = sheet([row(sample(0.5, 1.0))])
    red = page.getpixel(_tile_at(1, 56, 40))
    blue = page.getpixel(_tile_at(1, 40, 10))
    half_blue = page.getpixel(_tile_at(1, 6, 24))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert isinstance(half_blue, tuple)
    grey = 80 + 0.65 * 128
    for pixel, colour in ((red, SCALE[0]), (blue, SCALE[4]), (half_blue, SCALE[3])):
        assert distance(pixel, tuple(round(0.7 * part + 0.3 * grey) for part in colour)) <= 1


def test_a_missing_advantage_is_hatched_not_coloured() -> None:
    page = np.array(sheet([row(sample(0.5, None))]))
    x, y = _tile_at(1, 6, 6)
    region = page[y : y + 70, x : x + 24].reshape(-1, 3).astype(int)
    assert (np.abs(region - region.mean(axis=1, keepdims=True)) <= 1).all()
    assert len(np.unique(region[:, 0])) >= 2
    assert page.tobytes() == np.array(sheet([row(sample(0.5, float("nan")))])).tobytes()


def test_pixels_are_enlarged_by_whole_numbers() -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    page = np.array(sheet([replace(row(sample(1.0)), source=noisy)]))
    top = 74 + 16 + 25 + 24
    shown = page[top : top + 256, 28 : 28 + 256]
    assert (shown == noisy.repeat(4, axis=0).repeat(4, axis=1)).all()


def test_large_pictures_are_scaled_down() -> None:
    wide = np.zeros((300, 900, 3), dtype=np.uint8)
    regions = (SheetRegion(CUP, "cup", np.ones((300, 900), dtype=np.bool_)),)
    page = sheet([SheetRow("x", wide, regions, (SheetSample(wide, {}, {}, {}),))])
    assert page.width == 2 * 28 + 2 * 384 + 14


def test_samples_go_from_the_best_to_the_worst() -> None:
    """Ten samples whose brightness is their rank: shown are ranks 1, 4, 7, 10 of four."""
    samples = [sample(place / 10, level=20 * place + 10) for place in (3, 7, 1, 0, 9, 2, 8, 5, 4, 6)]
    page = np.array(sheet([row(*samples)], most=4))
    levels = [int(page[74 + 16 + 25 + 24 + 8, 28 + column * 270 + 8, 0]) for column in (1, 2, 3, 4)]
    assert levels == [190, 130, 70, 10]
    last = np.array(sheet([row(sample(None, level=10), sample(0.1, level=200))]))
    assert [int(last[74 + 16 + 25 + 24 + 8, 28 + column * 270 + 8, 0]) for column in (1, 2)] == [200, 10]


def test_mean_reward_is_of_edit_regions_and_never_of_some() -> None:
    assert mean_reward(SheetSample(picture(), {}, {}, {CUP: 0.5, LID: 1.0, "background": 0.0})) == 0.75
    assert mean_reward(sample(None)) is None
    assert mean_reward(SheetSample(picture(), {}, {}, {CUP: 0.5, LID: None})) is None
    assert mean_reward(SheetSample(picture(), {}, {}, {})) is None


def test_the_same_sheet_has_the_same_bytes() -> None:
    first, second = (sheet_png(sheet([row(sample(0.5), sample(0.7))], title="t")) for _ in range(2))
    assert first == second
    assert Image.open(BytesIO(first)).info == {}


def test_nothing_runs_out_of_the_page() -> None:
    """20 regions, a long instruction, a long title: the margins stay white and the page ends below the last line."""
    rng = np.random.default_rng(1)
    regions = tuple(
        SheetRegion(f"{n:016x}", "a thing with a very long name " * 9, square(*map(int, rng.integers(0, 56, 2)), 8))
        for n in range(20)
    )
    told = {region.key: float(rng.normal()) for region in regions}
    one = SheetSample(picture(), told, dict.fromkeys(told, 25.0), dict.fromkeys(told, 1.0))
    long = SheetRow("Change it all, " * 300, picture(), regions, (one,) * 3)
    short = row(sample(1.0), instruction="W" * 4000)
    page = np.array(sheet([long, short, row(instruction="")], title="W" * 999))
    assert (page[:, -20:] == PAPER).all()
    assert (page[:, :20] == PAPER).all()
    assert (page[-6:] == PAPER).all()
    assert page.shape[1] < 1300
    alone = np.array(sheet([replace(long, samples=())]))
    assert (alone[:, -20:] == PAPER).all()


@pytest.mark.parametrize(
    "text", ["", "one", "many words " * 60, "x" * 500, "two\nlines\u0007 \u202e and a bell", "中文" * 90]
)
def test_lines_fit(text: str) -> None:
    lines = wrapped(text, 17, 300, 3)
    assert len(lines) <= 3
    assert all(sheet_font(17, False).getlength(line) <= 300 for line in lines)
    assert clipped("short", 13, 300) == "short"


def test_what_does_not_fit_is_cut_and_says_so() -> None:
    lines = wrapped("many words " * 60, 17, 300, 2)
    assert lines[-1].endswith("…")
    assert not lines[0].endswith("…")
    assert " ".join(wrapped("just a few words here", 17, 100, 9)) == "just a few words here"


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a request"):
        sheet([])
    with pytest.raises(ValueError, match="needs a request"):
        sheet([row(sample(1.0))], most=0)
    with pytest.raises(ValueError, match="not of its source's size"):
        sheet([replace(row(), source=picture(side=32))])


def test_empty_and_odd_masks_are_drawn() -> None:
    regions = (SheetRegion(CUP, "", np.zeros((SIDE, SIDE), dtype=np.bool_)), SheetRegion(LID, "l", square(63, 63, 1)))
    one = SheetSample(picture(), {CUP: float("inf"), LID: -9.0}, {}, {})
    other = SheetSample(picture(side=20), {}, {}, {})
    assert sheet([SheetRow("x", picture(), regions, (one, other))]).size[0] > 0


ROWS = [
    {"update": 1, "loss": 2.0, "reward": {"edit": 0.5, "background": 0.9}, "clip_fraction": [0.1, 0.2], "note": "x"},
    {"update": 3, "loss": float("nan"), "reward/edit": 0.7, "done": True, "huge": 10**400},
    {"update": 4, "loss": None, "reward": {"edit": "0.9", "background": float("inf")}},
]


def test_figures_of_a_log() -> None:
    lines = {(line.name, line.part): line for line in lines_of(ROWS)}
    assert next(iter(lines)) == ("reward", "edit")
    assert set(lines) == {
        ("reward", "edit"), ("reward", "background"), ("loss", ""), ("clip_fraction", "0"), ("clip_fraction", "1"),
    }  # fmt: skip
    assert lines["reward", "edit"].x.tolist() == [1, 3]
    assert lines["reward", "edit"].y.tolist() == [0.5, 0.7]
    assert lines["loss", ""].x.tolist() == [1, 3, 4]
    assert np.array_equal(lines["loss", ""].y, [2.0, np.nan, np.nan], equal_nan=True)


def test_no_line_goes_back_where_tests_and_updates_are_rows_of_their_own() -> None:
    """Drawn in the order of rows, a line came back from the last update to the first."""
    tests = [{"update": update, "held_out": {"reward": 0.1 * update}} for update in (0, 40)]
    updates = [{"update": update, "loss": float(update)} for update in range(1, 41)]
    held_out, loss = sorted(lines_of([*tests, *updates]), key=lambda line: line.name)
    assert (held_out.x.tolist(), held_out.y.tolist()) == ([0, 40], [0.0, 4.0])
    assert loss.x.tolist() == loss.y.tolist() == list(range(1, 41))


def test_deep_and_self_made_names_do_no_harm(tmp_path: Path) -> None:
    deep: dict[str, object] = {"a": 1.0}
    for _ in range(50):
        deep = {"a": deep}
    rows = [{"update": u, "$\\frac$_{x": float(u), "n" * 500: 1.0, "deep": deep, "<b>": {"$": 2.0}} for u in range(3)]
    curves(rows, tmp_path / "curves.png", title="$\\bad$ \u0007" * 20)
    assert opened(tmp_path / "curves.png").width > 100


def test_curves_have_a_plot_for_each_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = opened(curves(ROWS, tmp_path / "few.png"))
    many = opened(curves([{f"figure {n}": 1.0 for n in range(9)}], tmp_path / "many.png"))
    assert many.width > few.width
    assert many.height > 2 * few.height
    parts = {"part": {str(n): float(n) for n in range(99)}}
    assert opened(curves([parts], tmp_path / "parts.png")).height < many.height / 2
    with pytest.raises(ValueError, match="no figure"):
        curves([{"update": 1, "note": "x"}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    drawn: list[str] = []
    monkeypatch.setattr(pictures_curves, "_draw", lambda axis, name, _: (drawn.append(name), axis.set_axis_off()))
    crowd = curves([parts | {f"f{n}": 1 for n in range(99)}], tmp_path / "c.png")  # 60 plots, left empty: they are slow
    assert opened(crowd).height < 5000
    assert drawn == ["part", *(f"f{n}" for n in range(MOST_PLOTS - 1))]


def test_the_same_curves_have_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"update": u, "loss": u**0.5, "kl": {"inside": 0.1 * u}} for u in range(40)]
    paths = [curves(rows, tmp_path / f"{n}.png") for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "Software" not in opened(paths[0]).info


def test_smoothing_by_hand() -> None:
    assert smoothed(np.array([0.0, 3.0, 6.0, np.nan]), 3).tolist() == [1.5, 3.0, 4.5, 6.0]
    assert np.isnan(smoothed(np.full(4, np.nan), 3)).all()


def test_a_band_by_hand() -> None:
    """One seed, two requests with 0 and 1: the draws are 0, .5 and 1, so the band is all of it."""
    found = band(np.array([[[0.0, 1.0]], [[1.0, 1.0]]]), samples=400)
    assert found.mean.tolist() == [0.5, 1.0]
    assert (found.low.tolist(), found.high.tolist()) == ([0.0, 1.0], [1.0, 1.0])


def test_a_band_is_over_seeds_and_over_requests() -> None:
    """Equal requests, unequal seeds, and the other way round: both make a band; neither makes none."""
    seeds = np.array([[[0.0] * 8, [1.0] * 8]])
    requests = np.array([[[0.0, 1.0]] * 8])
    for values in (seeds, requests):
        found = band(values, samples=300)
        assert (found.mean[0], found.low[0], found.high[0]) == (0.5, 0.0, 1.0)
    same = band(np.full((2, 3, 4), 0.25))
    assert same.low.tolist() == same.high.tolist() == same.mean.tolist()


def test_a_band_leaves_out_what_is_missing() -> None:
    values = np.array([[[0.5, np.nan], [np.nan, np.nan]], [[np.nan, np.nan], [np.nan, np.nan]]])
    found = band(values, samples=50)
    assert found.mean[0] == found.low[0] == found.high[0] == 0.5
    assert np.isnan(found.mean[1])
    with pytest.raises(ValueError, match="updates, seeds, requests"):
        band(np.zeros((2, 3)))


def test_arms_beside_another(tmp_path: Path) -> None:
    updates = np.arange(4.0)
    arms = {
        name: Arm(updates, {"reward": np.full((4, 2, 3), level), "all_right": np.full((4, 2, 3), level)})
        for name, level in (("Flow-GRPO", 0.2), ("SpatialFlow-GRPO $x$", 0.4))
    }
    first = comparison_plot(arms, tmp_path / "a.png", title="t", note="3 requests, 2 seeds", samples=20)
    again = comparison_plot(arms, tmp_path / "b.png", title="t", note="3 requests, 2 seeds", samples=20)
    assert first.read_bytes() == again.read_bytes()
    colours = np.array(opened(first).convert("RGB")).reshape(-1, 3)
    for colour in ((0, 114, 178), (213, 94, 0)):
        assert (np.abs(colours.astype(int) - colour).max(axis=1) <= 2).sum() > 300
    with pytest.raises(ValueError, match="1 to 7 arms"):
        comparison_plot({}, tmp_path / "c.png")
    with pytest.raises(ValueError, match="3 updates, figures of 4"):
        comparison_plot({"a": replace(arms["Flow-GRPO"], updates=updates[:3])}, tmp_path / "d.png", samples=5)
