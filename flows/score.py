"""What `regionwise score` does: opens pairs, asks a reward, prints records or a table, writes scores and pictures."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime.disk import require_place
from runtime.files import write_whole
from runtime.images import encode_image
from schemas.errors import BadInput
from schemas.reward import PredictedScore, ScoredPair
from training.pictures.scored_pair import draw_pair
from training.predictions import WHOLE_IMAGE_SCORES, ask
from training.reward_registry import make_reward
from training.scoring.pair_record import scored_pair
from training.scoring.pairs import Pair, make_pair, one_line, open_pair, read_image_file, read_lines

CHUNK = 32


@dataclass(frozen=True)
class ScoreRequest:
    """What the command line names: one pair, or a JSONL of pairs."""

    source: Path | None
    edited: Path | None
    instruction: str | None
    masks: tuple[Path, ...] = ()
    boxes: tuple[str, ...] = ()
    pairs: Path | None = None


def score_pairs(
    asked: ScoreRequest, spec: str, out: Path | None, picture: Path | None, size_px: int, as_json: bool
) -> None:
    """Scores one pair or a list. out: JSONL of scores. picture: a PNG, or for a list the folder of its PNGs.

    Raises: BadInput for anything that cannot be used; nothing is written then but the pictures of pairs before it;
    NoRoom, RegionwiseError where one of them cannot be written, before anything is asked.
    """
    _check(asked, picture)
    _require_places(out, picture)
    chunks = _chunks(asked, size_px)
    first = next(chunks)
    reward = make_reward(spec)
    every: list[ScoredPair] = []
    for pairs in (first, *chunks):
        answers = ask(reward, [pair.query for pair in pairs])
        for pair, answer in zip(pairs, answers, strict=True):
            scored = scored_pair(pair, answer, f"{reward.name} {reward.revision}")
            if picture is not None:
                place = picture / f"{pair.id}.png" if asked.pairs else picture
                write_whole(place, encode_image(draw_pair(pair, scored), "png"))
            every.append(scored)
    if out is not None:
        write_whole(out, "".join(found.model_dump_json() + "\n" for found in every))
    _show(every, as_json, one=asked.pairs is None)


def _check(asked: ScoreRequest, picture: Path | None) -> None:
    """Raises: BadInput where neither one pair nor a list is named, or both are."""
    one = {"--source": asked.source, "--edited": asked.edited, "--instruction": asked.instruction}
    if asked.pairs is not None:
        given = [name for name, value in one.items() if value is not None]
        given += ["--mask"] * bool(asked.masks) + ["--box"] * bool(asked.boxes)
        if given:
            raise BadInput("command line", f"names both --pairs and {given[0]}", "give one of them")
        if picture is not None and picture.exists() and not picture.is_dir():
            raise BadInput(str(picture), "is no folder", "name a folder for the pictures of --pairs")
        return
    missing = [name for name, value in one.items() if value is None]
    if missing:
        raise BadInput(
            "command line", f"names no {missing[0]}", "give --source, --edited and --instruction, or --pairs"
        )
    if picture is not None and picture.suffix.lower() != ".png":
        raise BadInput(str(picture), "is no PNG name", "end the picture's name with .png")


def _require_places(out: Path | None, picture: Path | None) -> None:
    if out is not None and out.is_dir():
        raise BadInput(str(out), "is a folder", "name a file for the scores")
    for place in (out, picture):
        if place is not None:
            require_place(place)


def _chunks(asked: ScoreRequest, size_px: int) -> Iterator[list[Pair]]:
    if asked.pairs is not None:
        lines = list(read_lines(asked.pairs))
        for start in range(0, len(lines), CHUNK):
            yield [open_pair(line, asked.pairs.parent, size_px) for line in lines[start : start + CHUNK]]
    elif asked.source is not None and asked.edited is not None and asked.instruction is not None:
        line = one_line(asked.source, asked.edited, asked.instruction, asked.masks, asked.boxes)
        masks = [read_image_file(path) for path in asked.masks]
        yield [make_pair(line, read_image_file(asked.source), read_image_file(asked.edited), masks, size_px)]


def _show(every: Sequence[ScoredPair], as_json: bool, one: bool) -> None:
    if as_json:
        documents = [found.model_dump(mode="json") for found in every]
        print(json.dumps(documents[0] if one else {"pairs": documents}))
        return
    for found in every:
        Console().print(_table(found))


def _table(found: ScoredPair) -> Table:
    table = Table("region", "success", "preserve", "lowest", "R", title=escape(f"{found.id}: {found.instruction}"))
    for region in found.regions:
        scores = (_as_text(region.success), _as_text(region.preserve), _number(region.phi), _number(region.reward, 2))
        table.add_row(escape(f"{region.label} ({region.origin})"), *scores)
    behind = found.background
    table.add_row("background", "", _as_text(behind), _number(behind.mean), _number(found.background_reward, 2))
    for name in WHOLE_IMAGE_SCORES:
        table.add_row(f"whole image: {name}", _as_text(getattr(found, name)))
    return table


def _as_text(score: PredictedScore) -> str:
    return _number(score.mean) if score.std is None else f"{_number(score.mean)} ± {score.std:.1f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "missing" if value is None else f"{value:.{digits}f}"
