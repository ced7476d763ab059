"""An editing model on a benchmark, from the command line: `python -m training.evaluation.benchmark COMMAND --help`.

| command | what it does |
|---|---|
| `build` | writes a benchmark of requests for several regions, from a run or from held-out procedural scenes |
| `edit` | edits a benchmark's items with any editor of the build, as `policy:FOLDER`; started again it goes on |
| `score` | scores edits that lie in a folder, whoever made them, with any judge, and writes the figures as JSON |
| `compare` | two results on one multi-region benchmark, with paired intervals |

| kind | `--benchmark` | edits lie as | `--judge` |
|---|---|---|---|
| `multi-edit` | a folder that `build` wrote | REQUEST.png | `oracle`, or a reward's spec |
| `gedit` | the folder of GEdit's Parquet files | fullset/TASK/LANGUAGE/KEY.png | `scores:FILE`, or a reward's spec |
| `imgedit` | ImgEdit's basic_edit.json, with `--images` | KEY.png | the same, or `official:result.json` |
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from pipeline.editors.plugins import is_embedded, loaded_editor
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import CannotEdit, Edit, Editor
from runtime.exits import failed
from runtime.files import write_whole
from runtime.images import ImageU8, encode_image, pixels_sha256
from schemas.edit_benchmarks import GeditResult, ImgeditResult, Interval, MultiEditResult
from schemas.errors import BadInput, RegionwiseError
from schemas.request import EditRequest, Source, Split, request_id
from training.evaluation import edit_files, gedit, imgedit
from training.evaluation.edit_files import EditFunction, item_seed, missing_edits
from training.evaluation.edit_judge import EditJudge, RewardJudge, ScoreFile, gedit_parts, imgedit_parts
from training.evaluation.gedit_items import LANGUAGES, read_gedit
from training.evaluation.multi_edit import compare, saved_edits, score_edits
from training.evaluation.multi_edit_items import (
    ITEMS,
    Item,
    build_benchmark,
    read_benchmark,
    run_requests,
    scene_requests,
)
from training.evaluation.multi_edit_scorers import OracleScorer, RewardScorer, Scorer

KINDS = ("multi-edit", "gedit", "imgedit")
Result = MultiEditResult | GeditResult | ImgeditResult


def main(arguments: list[str] | None = None) -> int:
    """The process: says on one line what came of it. Returns: exit code."""
    given = _parser().parse_args(arguments)
    try:
        print(given.run_command(given))
    except (RegionwiseError, OSError) as error:
        return failed(error)
    return 0


def make_editor(spec: str, device: str = "auto") -> Editor:
    """The editor of a spec, as for `regionwise build --editor`. Raises: BadInput, MissingPackage."""
    return ProceduralEditor() if is_embedded(spec) else loaded_editor(spec, device)


class Counted:
    """An editor that counts why it could not edit. left_out: reason -> how often."""

    def __init__(self, editor: Editor) -> None:
        self.name, self.revision, self.synthetic = editor.name, editor.revision, editor.synthetic
        self._editor, self.left_out = editor, Counter[str]()

    def edit(self, request: EditRequest, sources: list[ImageU8], index: int, seed: int) -> Edit:
        """As `Editor.edit`."""
        try:
            return self._editor.edit(request, sources, index, seed)
        except CannotEdit as error:
            self.left_out[error.reason] += 1
            raise


def edit_with(editor: Editor) -> EditFunction:
    """The editor as (source, instruction, seed) -> edited image. It raises CannotEdit as the editor does."""

    def edit(source: ImageU8, instruction: str, seed: int) -> ImageU8:
        return editor.edit(request_of(source, instruction), [source], 0, seed).image

    return edit


def request_of(source: ImageU8, instruction: str) -> EditRequest:
    """A request of an instruction alone. Raises: CannotEdit for a text that is no instruction."""
    digest = pixels_sha256(source)
    height, width = source.shape[:2]
    try:
        return EditRequest(
            id=request_id((digest,), instruction, (), ()),
            name="benchmark",
            kind="single",
            sources=(
                Source(name="source", origin_sha256=digest, pixels_sha256=digest, width_px=width, height_px=height),
            ),
            instruction=instruction,
            edit_type="benchmark",
            synthetic=False,
        )
    except ValidationError as error:
        raise CannotEdit("bad_instruction", error.errors()[0]["msg"]) from None


def write_multi_edits(folder: Path, items: Iterable[Item], editor: Editor, *, seed: int = 0) -> int:
    """Makes the edits that `folder` does not hold yet; CannotEdit leaves an item out. Returns: how many it made."""

    def edit_item(item: Item) -> ImageU8:
        return editor.edit(item.record.request, [item.source], 0, item_seed(seed, item.id)).image

    made = 0
    for _, path, image in missing_edits(folder, items, edit_item):
        write_whole(path, encode_image(image, "png"))
        made += 1
    return made


def make_judge(kind: str, spec: str) -> EditJudge:
    """The judge of GEdit or ImgEdit. Raises: BadInput for a spec that is not known or a file that is no good."""
    name, _, place = spec.partition(":")
    if name == "scores":
        return ScoreFile(Path(place))
    if name == "official" and kind == "imgedit":
        return imgedit.OfficialAnswers(Path(place))
    from training.reward_registry import make_reward

    parts = gedit_parts if kind == "gedit" else imgedit_parts
    return RewardJudge(make_reward(spec), parts, synthetic=not spec.startswith("endpoint:"))


def make_scorer(spec: str) -> Scorer:
    """The scorer of multi-region edits. Raises: BadInput for a spec that is not known."""
    if spec == "oracle":
        return OracleScorer()
    from training.reward_registry import make_reward

    return RewardScorer(make_reward(spec), synthetic=not spec.startswith("endpoint:"))


def _build(given: argparse.Namespace) -> str:
    split: Split | None = None if given.split == "all" else given.split
    found = run_requests(given.run, split) if given.run else scene_requests(given.size_px)
    name = given.run.name if given.run else f"scenes-{given.size_px}"
    manifest = build_benchmark(given.out, name, found, given.items).manifest
    regions = sum(len(item.regions) for item in manifest.items)
    return f"{given.out}: {len(manifest.items)} requests, {regions} regions, {manifest.synthetic} synthetic"


def _edit(given: argparse.Namespace) -> str:
    editor = Counted(make_editor(given.editor, given.device))
    if given.kind == "multi-edit":
        made = write_multi_edits(given.out, read_benchmark(given.benchmark).items(), editor, seed=given.seed)
    elif given.kind == "gedit":
        items = read_gedit(given.benchmark, given.language)
        made = gedit.write_edits(given.out, items, edit_with(editor), seed=given.seed)
    else:
        items_of = imgedit.read_imgedit(given.benchmark, _images(given))
        made = imgedit.write_edits(given.out, items_of, edit_with(editor), seed=given.seed)
    left_out = "".join(f", {count} left out: {reason}" for reason, count in sorted(editor.left_out.items()))
    return f"{given.out}: {made} edits made by {editor.name}{left_out}"


def _score(given: argparse.Namespace) -> str:
    result: Result
    named = {"policy": given.policy}
    if given.kind == "multi-edit":
        scorer = make_scorer(given.judge)
        result = score_edits(read_benchmark(given.benchmark), saved_edits(given.edits), scorer, **named)
        figures = result.overall
        shown = {"regions right": figures.region_right, "all right": figures.all_right}
        shown |= {"R": figures.region_reward, "background": figures.background}
    elif given.kind == "gedit":
        items, judge = read_gedit(given.benchmark, given.language), make_judge("gedit", given.judge)
        result = gedit.evaluate_gedit(items, edit_files.saved_edits(given.edits), judge, **named)
        whole = result.overall
        shown = {"SC": whole.semantics, "PQ": whole.quality, "O": whole.overall}
    else:
        items_of, judge = imgedit.read_imgedit(given.benchmark, _images(given)), make_judge("imgedit", given.judge)
        result = imgedit.evaluate_imgedit(items_of, edit_files.saved_edits(given.edits), judge, **named)
        shown = {"mean over types": result.overall, "mean over items": result.per_item}
    write_whole(given.out, result.model_dump_json(indent=1) + "\n")
    return ", ".join(f"{name} {_said(figure)}" for name, figure in shown.items())


def _compare(given: argparse.Namespace) -> str:
    first, second = (MultiEditResult.from_json(_read(path), thing=str(path)) for path in (given.first, given.second))
    found = compare(first, second)
    write_whole(given.out, found.model_dump_json(indent=1) + "\n")
    return ", ".join(f"{figure.what} {_said(figure.difference, signed=True)}" for figure in found.figures)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {type(error).__name__}", "give what `score` wrote") from None


def _images(given: argparse.Namespace) -> Path:
    if given.images is None:
        raise BadInput("imgedit", "needs the folder of its originals", "give it with --images")
    return Path(given.images)


def _said(figure: Interval, *, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    if figure.value is None or figure.low is None or figure.high is None:
        return "missing" if figure.value is None else f"{figure.value:{form}}"
    return f"{figure.value:{form}} ({figure.low:{form}} to {figure.high:{form}})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="a benchmark of requests for several regions, as a folder")
    build.add_argument("--out", type=Path, required=True)
    build.add_argument("--run", type=Path, help="a built run; without it procedural scenes")
    build.add_argument("--split", choices=[*get_args(Split), "all"], default="test")
    build.add_argument("--items", type=int, default=ITEMS)
    build.add_argument("--size-px", type=int, default=128, help="side of the scenes")
    build.set_defaults(run_command=_build)
    edit = commands.add_parser("edit", help="edits a benchmark's items")
    edit.add_argument("--editor", required=True, help="as for `regionwise build`: policy:FOLDER, procedural, ...")
    edit.add_argument("--out", type=Path, required=True, help="the folder of edits")
    edit.add_argument("--device", default="auto")
    edit.add_argument("--seed", type=int, default=0)
    edit.set_defaults(run_command=_edit)
    score = commands.add_parser("score", help="scores edits")
    score.add_argument("--edits", type=Path, required=True, help="the folder of edits")
    score.add_argument("--judge", default="oracle", help="see above [default: oracle]")
    score.add_argument("--policy", required=True, help="what the result calls the policy")
    score.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    score.set_defaults(run_command=_score)
    for command in (edit, score):
        command.add_argument("kind", choices=KINDS)
        command.add_argument("--benchmark", type=Path, required=True)
        command.add_argument("--images", type=Path, help="folder of ImgEdit's originals")
        command.add_argument("--language", choices=LANGUAGES, default="en", help="of GEdit's items")
    versus = commands.add_parser("compare", help="two results on one multi-region benchmark")
    versus.add_argument("first", type=Path)
    versus.add_argument("second", type=Path)
    versus.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    versus.set_defaults(run_command=_compare)
    return parser


if __name__ == "__main__":
    sys.exit(main())
