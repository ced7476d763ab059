"""`regionwise score`: real photographs in, records and a picture out; whatever is wrong is one line and exit code 2."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from flows.cli import main
from runtime.images import decode_image
from schemas.reward import ScoredPair, ScoreLine
from tests.cases.reward_cases import Constant, prediction
from training.pictures.scored_pair import draw_pair, score_colour
from training.reward_protocol import RewardQuery
from training.reward_registry import make_reward
from training.scoring.pair_record import scored_pair
from training.scoring.pairs import Pair, found_regions, make_pair, one_line, open_pair

WORDS = "Make the cup blue and leave the table as it is."


@pytest.fixture(scope="module")
def made_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of a cup, 600 x 400 px; the same with two places repainted; a mask of the first place."""
    folder = tmp_path_factory.mktemp("photos")
    source = data.coffee()
    edited = source.copy()
    edited[120:220, 240:380] = edited[120:220, 240:380, ::-1]
    edited[300:350, 40:120] = 255 - edited[300:350, 40:120]
    mask = np.zeros(source.shape[:2], dtype=np.uint8)
    mask[120:220, 240:380] = 255
    for name, image in (("a.png", source), ("b.png", edited), ("mask.png", mask)):
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def photos(made_photos: Path, tmp_path: Path) -> Path:
    """A copy of the photographs, for a test to write beside."""
    return shutil.copytree(made_photos, tmp_path, dirs_exist_ok=True)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["score", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return int(str(ended.value.code or 0)), printed.out, printed.err


def pair_of(photos: Path) -> tuple[object, ...]:
    return ("--source", photos / "a.png", "--edited", photos / "b.png", "--instruction", WORDS)


def test_regions_are_found_and_a_picture_is_drawn(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = photos / "out.png"
    reward = ("--reward", "pixel-difference")
    code, out, err = run(capsys, *pair_of(photos), *reward, "--picture", picture, "--json")
    assert (code, err) == (0, "")
    found = ScoredPair.from_document(json.loads(out), thing="output")
    assert (found.width_px, found.height_px) == (256, 171)
    assert [region.origin for region in found.regions] == ["found", "found"]
    x1, y1, x2, y2 = found.regions[0].box or (0, 0, 0, 0)
    assert np.abs(np.array([x1, y1, x2, y2]) * 600 / 256 - [240, 120, 380, 220]).max() < 8
    assert found.background.mean is not None
    assert found.background.mean > 24.9
    assert all(region.phi is not None and region.phi < 24 for region in found.regions)
    assert decode_image(picture.read_bytes()).shape[1] >= 800


def test_given_masks_and_boxes_are_the_regions(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--mask", photos / "mask.png", "--box", "0,0,60,60", "--size-px", "600")
    code, out, _ = run(capsys, *pair_of(photos), *given, "--reward", "pixel-change", "--json")
    regions = json.loads(out)["regions"]
    assert code == 0
    assert [region["box"] for region in regions] == [[240, 120, 380, 220], [0, 0, 60, 60]]
    assert regions[0]["phi"] > regions[1]["phi"] == 0
    assert regions[0]["area_px"] == 14_000


def test_a_list_of_pairs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        {"id": "one", "source": "a.png", "edited": "b.png", "instruction": WORDS},
        {"id": "two", "source": "a.png", "edited": "a.png", "instruction": WORDS},
    ]
    lines.append(lines[0] | {"id": "three", "boxes": [[1, 2, 30, 40]], "labels": ["rim"]})
    (photos / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    places = ("--out", photos / "scores.jsonl", "--picture", photos / "pictures")
    code, out, _ = run(capsys, "--pairs", photos / "pairs.jsonl", "--reward", "pixel-difference", *places)
    assert code == 0
    scores = [json.loads(line) for line in (photos / "scores.jsonl").read_text().splitlines()]
    assert [score["id"] for score in scores] == ["one", "two", "three"]
    assert [len(score["regions"]) for score in scores] == [2, 0, 1]
    assert scores[1]["background"]["mean"] == 25
    assert scores[2]["regions"][0]["label"] == "rim"
    assert {path.name for path in (photos / "pictures").iterdir()} == {"one.png", "two.png", "three.png"}
    assert "rim" in out


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--source": "missing.png"}, "No such file"),
        ({"--source": "."}, "Is a directory"),
        ({"--edited": "text.png"}, "not one of PNG"),
        ({"--edited": "tall.png"}, "give two images of one shape"),
        ({"--instruction": " "}, "is empty"),
        ({"--mask": "black.png"}, "black all over"),
        ({"--mask": "tall.png"}, "of the source's size"),
        ({"--box": "1,2,3"}, "not four whole numbers"),
        ({"--box": "5,5,5,9"}, "has no area"),
        ({"--box": "0,0,601,10"}, "leaves 600 x 400 px"),
        ({"--picture": "out.jpg"}, "no PNG name"),
        ({"--reward": "oracle"}, "is not known"),
        ({"--reward": "untrained"}, "does not say where it is"),
        ({"--reward": "pixel-difference:3"}, "takes nothing after its name"),
        ({"--reward": "region:nowhere"}, "nowhere"),
        ({"--reward": "endpoint:not an address"}, "judge"),
        ({"--pairs": "pairs.jsonl"}, "names both"),
    ],
)
def test_bad_input_is_one_line(
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(photos)
    (photos / "text.png").write_text("no image")
    Image.new("RGB", (100, 400)).save("tall.png")
    Image.new("L", (600, 400)).save("black.png")
    given = {"--source": "a.png", "--edited": "b.png", "--instruction": WORDS, "--reward": "pixel-difference"} | changed
    code, out, err = run(capsys, *(part for item in given.items() for part in item))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err
    assert not (photos / "out.jpg").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no pair"),
        ("{", "line 1: is not JSON"),
        ('{"id": "x"}', "line 1"),
        ('{"id": "../x", "source": "a.png", "edited": "b.png", "instruction": "y"}', "id"),
        ('{"id": "x", "source": "/etc/hostname", "edited": "b.png", "instruction": "y"}', "leaves"),
        ('{"id": "x", "source": "https://example.org/a.png", "edited": "b.png", "instruction": "y"}', "remote"),
        ('{"id": "x", "source": "a.png", "edited": "b.png", "instruction": "y", "labels": ["a", "b"]}', "2 labels"),
        ('{"id": "x", "source": "a.png", "edited": "b.png", "instruction": "y"}\n' * 2, "line 2: has the id"),
    ],
)  # fmt: skip
def test_bad_lists_are_one_line(photos: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    (photos / "pairs.jsonl").write_text(text)
    out = ("--out", photos / "scores.jsonl")
    code, _, err = run(capsys, "--pairs", photos / "pairs.jsonl", "--reward", "pixel-difference", *out)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err
    assert not (photos / "scores.jsonl").exists()


def test_missing_flags_are_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--source", photos / "a.png", "--reward", "pixel-difference")
    assert code == 2
    assert "names no --edited" in err


def test_near_parts_are_one_region_and_specks_none() -> None:
    source = np.full((256, 256, 3), 120, dtype=np.uint8)
    edited = source.copy()
    edited[40:80, 40:80] = edited[40:80, 89:120] = (220, 40, 40)
    edited[180:220, 180:220] = (20, 40, 200)
    regions = found_regions(source, edited)
    assert len(regions) == 2
    assert regions[0][60, 60]
    assert regions[0][60, 100]
    assert not regions[0][60, 84]
    assert regions[0].sum() > regions[1].sum()
    assert not (regions[0] & regions[1]).any()
    assert found_regions(source, source) == []


def test_a_mask_that_scaling_would_lose_keeps_a_pixel() -> None:
    image = np.zeros((2000, 2000, 3), dtype=np.uint8)
    mask = image.copy()
    mask[1001, 1001] = 255
    line = one_line(Path("a"), Path("b"), "x", [Path("m")], [])
    pair = make_pair(line, image, image, [mask], 256)
    assert pair.query.masks["region-1"].sum() in (1, 2, 4)


def test_a_missing_score_stays_missing() -> None:
    masks = {"region-1": np.eye(64, dtype=bool), "region-2": ~np.eye(64, dtype=bool)}
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    pair = Pair("x", RewardQuery(image, image, "y", masks), {"region-1": "one", "region-2": "two"}, "given")
    found = scored_pair(pair, prediction({"region-1": 16.0, "region-2": None}, float("nan"), (25, 25, 25, 9)), "test")
    assert [region.phi for region in found.regions] == [16.0, None]
    assert found.regions[0].reward == pytest.approx(12 / 25)
    assert found.regions[1].reward is None
    assert (found.background.mean, found.background_reward) == (None, None)
    assert found.coverage == pytest.approx(6 / 9)
    picture = draw_pair(pair, found)
    assert picture.dtype == np.uint8
    silent = scored_pair(pair, Constant(None).score([pair.query])[0], "test")
    assert silent.coverage == 0
    assert draw_pair(pair, silent).shape == picture.shape


def test_a_picture_says_good_and_bad_by_colour() -> None:
    """The outline of the bad region is red, that of the good one green, and the frame is the background's."""
    (red, green, _), (red_best, green_best, _) = score_colour(0), score_colour(25)
    assert red > 2 * green
    assert green_best > 2 * red_best
    assert score_colour(None) not in {score_colour(0), score_colour(25)}
    masks = {key: np.zeros((64, 64), dtype=bool) for key in ("bad", "good")}
    masks["bad"][10:30, 8:28], masks["good"][36:56, 36:56] = True, True
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    pair = Pair("x", RewardQuery(image, image, "y", masks), {"bad": "bad", "good": "good"}, "given")
    scored = scored_pair(pair, prediction({"bad": 0.0, "good": 25.0}, 12.5), "test")
    seen = draw_pair(pair, scored).reshape(-1, 3)
    for score in (0, 25, 12.5):
        assert (seen == score_colour(score)).all(axis=1).any()


def test_long_and_foreign_words_fit(tmp_path: Path) -> None:
    masks = {f"region-{n}": np.eye(64, k=n, dtype=bool) for n in range(9)}
    image = np.zeros((30, 90, 3), dtype=np.uint8)
    masks = {key: mask[:30].repeat(2, axis=1)[:, :90] for key, mask in masks.items()}
    pair = Pair(
        "x",
        RewardQuery(image, image, "把杯子变成红色 " * 90 + "w" * 900, masks),
        dict.fromkeys(masks, "l" * 200),
        "found",
    )
    picture = draw_pair(pair, scored_pair(pair, Constant(3.0, 9.0).score([pair.query])[0], "r" * 300))
    assert 800 <= picture.shape[1] <= 900
    with BytesIO() as file:
        Image.fromarray(picture).save(file, "PNG")
    assert make_reward("pixel-change").name == "pixel-change"
    line = ScoreLine(id="x", source="a.png", edited="a.png", instruction="y")
    Image.fromarray(image).save(tmp_path / "a.png")
    assert open_pair(line, tmp_path, 256).query.masks == {}
