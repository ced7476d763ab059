"""The commands on rewards, policies, checkpoints and instructions. Each imports what it does when it is called."""

from pathlib import Path

import click

from flows.cli_options import JSON, RUN


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["safetensors", "transformers"]),
    default="safetensors",
    help="a file, or for GroundingDINO a folder for transformers [default: safetensors]",
)
@JSON
def convert(source: Path, out: Path, to: str, as_json: bool) -> None:
    """Turn a published .pth checkpoint into safetensors. A pickle that holds more than tensors is refused."""
    from flows.commands import convert_checkpoint

    convert_checkpoint(source, out, to, as_json)


@click.command()
@click.option("--reward", "spec", required=True, help="region:FOLDER, endpoint:URL, pixel-difference or pixel-change")
@click.option("--source", type=click.Path(path_type=Path), default=None, help="the image before the edit")
@click.option("--edited", type=click.Path(path_type=Path), default=None, help="the image after it")
@click.option("--instruction", default=None, help="what was asked for")
@click.option(
    "--mask", "masks", type=click.Path(path_type=Path), multiple=True, help="a region: an image, white inside"
)
@click.option("--box", "boxes", multiple=True, help="a region: x1,y1,x2,y2 in pixels of the source")
@click.option("--pairs", type=click.Path(path_type=Path), default=None, help="JSONL of pairs instead of one")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="JSONL of scores")
@click.option("--picture", type=click.Path(path_type=Path), default=None, help="PNG to look at; with --pairs a folder")
@click.option("--size-px", type=click.IntRange(32, 4096), default=256, help="longest side looked at [default: 256]")
@JSON
def score(
    spec: str,
    source: Path | None,
    edited: Path | None,
    instruction: str | None,
    masks: tuple[Path, ...],
    boxes: tuple[str, ...],
    pairs: Path | None,
    out: Path | None,
    picture: Path | None,
    size_px: int,
    as_json: bool,
) -> None:
    """Score every region of an edit with a reward; without --mask and --box the regions are found by comparing."""
    from flows.score import ScoreRequest, score_pairs

    score_pairs(ScoreRequest(source, edited, instruction, masks, boxes, pairs), spec, out, picture, size_px, as_json)


@click.command()
@click.argument("instruction")
@JSON
def parse(instruction: str, as_json: bool) -> None:
    """Say what an edit instruction names: which things, what becomes of each, and what stays."""
    from flows.commands import show_parsed

    show_parsed(instruction, as_json)


@click.command("train-reward")
@RUN
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=None, help="settings in TOML")
@click.option("--without", type=click.Choice(["source", "instruction"]), default=None, help="train this blind rival")
@click.option("--with-rivals", is_flag=True, help="train both blind rivals beside it")
@click.option("--minutes", type=click.FloatRange(min=0), default=None, help="at most so long [default: no limit]")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="one setting, over the file's")
@JSON
def train_reward(
    run: Path,
    config_file: Path | None,
    without: str | None,
    with_rivals: bool,
    minutes: float | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train the region reward on a run's dataset, into RUN/reward. Started again, it goes on where it was."""
    from flows.train_reward import RewardTraining, train_reward_of_run

    train_reward_of_run(run, RewardTraining(config_file, minutes, settings), without, with_rivals, as_json)


@click.command("train-policy")
@RUN
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=None, help="settings in TOML")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="one setting, over the file's")
@click.option("--name", default="policy", help="its folder is RUN/policy/NAME [default: policy]")
@click.option("--processes", type=click.IntRange(1, 64), default=1, help="on this machine, a GPU each [default: 1]")
@JSON
def train_policy(
    run: Path, config_file: Path | None, settings: tuple[str, ...], name: str, processes: int, as_json: bool
) -> None:
    """Train an editing policy on a run's dataset, into RUN/policy/NAME. Started again, it goes on where it was."""
    from flows.train_policy import PolicyTraining, train_policy_and_show

    train_policy_and_show(run, PolicyTraining(name, config_file, settings, processes), as_json)


@click.command()
@RUN
@click.option("--left-out", default=None, help="the defect that training never saw")
@click.option("--sources", type=click.IntRange(min=1), default=None, help="held-out scenes")
@JSON
def evaluate(run: Path, left_out: str | None, sources: int | None, as_json: bool) -> None:
    """Test where the reward of a run looks, beside its rivals on held-out scenes, into RUN/reward."""
    from flows.train_reward import evaluate_reward_of_run

    evaluate_reward_of_run(run, left_out, sources, as_json)
