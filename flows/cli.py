"""The command line: `regionwise build`, `export`, `verify`, `report` and what looks after a run. Imports no Prefect.

Exit code 0 done (rejects are fine), 1 failed, 2 bad input or settings, 3 more rejected than the allowed share,
130 interrupted. An error is one line on stderr; with `--json` it is one object: code, thing, fault, remedy.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import click
from click.core import ParameterSource
from pydantic.fields import FieldInfo

from pipeline.config import BuildConfig, load_config
from schemas.errors import RegionwiseError

INTERRUPTED = 130
#: Settings that only a config file gives: they are groups of their own.
FILE_ONLY = ("splits", "gates")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        cli.main(arguments, prog_name="regionwise", standalone_mode=False)
    except RegionwiseError as error:
        _fail(error.exit_code, error.thing, error.fault, error.remedy, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else "see `regionwise --help`", file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        _fail(2, "command line", error.format_message().rstrip("."), "see `regionwise --help`", as_json)
    except (click.Abort, KeyboardInterrupt):
        _fail(INTERRUPTED, "the command", "was interrupted", "start it again: what is done is kept", as_json)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except OSError as error:
        thing = str(error.filename or "file system")
        _fail(
            1, thing, error.strerror or type(error).__name__, "mend it and start again: what is done is kept", as_json
        )
    sys.exit(0)


def _fail(code: int, thing: str, fault: str, remedy: str, as_json: bool) -> NoReturn:
    error = RegionwiseError(thing, fault, remedy)
    print(json.dumps({**error.as_json(), "code": code}) if as_json else f"regionwise: {error}", file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="regionwise")
def cli() -> None:
    """Region-annotated image-editing data: from source and instruction to verified tar shards."""


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One flag for every setting of `BuildConfig`, so that the two cannot drift apart."""
    for name, field in reversed(BuildConfig.model_fields.items()):
        if name not in FILE_ONLY:
            command = _option(name, field)(command)
    return command


def _option(name: str, field: FieldInfo) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag, default = f"--{name.replace('_', '-')}", field.get_default(call_default_factory=True)
    choices = [value for value in get_args(field.annotation) if isinstance(value, str)]
    kind = click.Choice(choices) if choices else (str if isinstance(default, tuple) else type(default))
    shown = "none" if default == () else str(default)
    return click.option(
        flag, type=kind, multiple=isinstance(default, tuple), help=f"{field.description} [default: {shown}]"
    )


def _given(context: click.Context) -> dict[str, Any]:
    """The settings that the command line itself gives, so that a config file's stay in force otherwise."""
    return {
        name: value
        for name, value in context.params.items()
        if name in BuildConfig.model_fields and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


RUN = click.option("--run", required=True, type=click.Path(path_type=Path), help="the run's folder")
JSON = click.option("--json", "as_json", is_flag=True, help="one JSON object instead of a table")
WORKERS = click.option("--workers", type=click.IntRange(1, 1024), default=1, help="local processes [default: 1]")
SNAPSHOT = click.option("--snapshot", required=True, help="name of a snapshot of the annotations")
DASK = click.option("--dask", default=None, help="address of a Dask scheduler that shares this file system")


@cli.command()
@RUN
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=None, help="settings in TOML")
@_config_options
@WORKERS
@DASK
@JSON
@click.pass_context
def build(
    context: click.Context,
    /,
    run: Path,
    config_file: Path | None,
    workers: int,
    dask: str | None,
    as_json: bool,
    **_settings: Any,
) -> None:
    """Build a dataset: requests, candidates, regions, gates, then the tars. Started again, it goes on where it was."""
    from flows.commands import build_run

    build_run(run, load_config(config_file, _given(context)), workers, dask, as_json)


@cli.command()
@RUN
@WORKERS
@DASK
@JSON
def resume(run: Path, workers: int, dask: str | None, as_json: bool) -> None:
    """Go on with a run, with the settings that it was made with."""
    from flows.commands import resume_run

    resume_run(run, workers, dask, as_json)


@cli.command()
@RUN
@click.option("--scores", default=None, help="rows, oracle or consensus:SNAPSHOT [default: as at the last export]")
@WORKERS
@DASK
@JSON
def export(run: Path, scores: str | None, workers: int, dask: str | None, as_json: bool) -> None:
    """Write a finished run's dataset anew; tars that are whole and current stay."""
    from flows.commands import export_run

    export_run(run, scores, workers, dask, as_json)


def _count_option(kind: str, default: int, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = f"{what} [default: {default}]"
    return click.option(f"--{kind}", f"n_{kind}", type=click.IntRange(0, 100), default=default, help=shown)


@cli.command()
@RUN
@SNAPSHOT
@_count_option("raters", 5, "simulated raters that err as a consensus assumes")
@_count_option("random", 0, "beside them, raters that answer at random")
@_count_option("copying", 0, "beside them, raters that copy a neighbour's answers")
@_count_option("bimodal", 0, "beside them, raters of two moods")
@click.option("--seed", type=click.IntRange(0), default=0, help="seed of the raters [default: 0]")
@JSON
def rate(
    run: Path,
    snapshot: str,
    n_raters: int,
    n_random: int,
    n_copying: int,
    n_bimodal: int,
    seed: int,
    as_json: bool,
) -> None:
    """Let simulated raters rate what the gates kept, and name all annotations up to then as a snapshot. Synthetic."""
    from flows.people import rate_run

    rate_run(run, snapshot, (n_raters, n_random, n_copying, n_bimodal), seed, as_json)


@cli.command()
@RUN
@SNAPSHOT
@click.option(
    "--method",
    type=click.Choice(["latent", "huber"]),
    default="latent",
    help="latent: by what each rater is like; huber: a robust mean [default: latent]",
)
@JSON
def consensus(run: Path, snapshot: str, method: str, as_json: bool) -> None:
    """Put the raters of a snapshot together: scores, issues, masks, and how far the raters agree."""
    from flows.people import consensus_run

    consensus_run(run, snapshot, as_json, method)


URL = click.option("--url", default=None, help="where Label Studio is [default: where the run was pushed before]")
TOKEN_ENV = click.option(
    "--token-env",
    default="LABEL_STUDIO_API_KEY",
    help="environment variable with the token [default: LABEL_STUDIO_API_KEY]",
)
STUDIO = click.option(
    "--studio",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="data folder of a Label Studio that `make studio` runs: its URL, token and document root",
)


@cli.command()
@RUN
@URL
@TOKEN_ENV
@STUDIO
@click.option("--title", default=None, help="what its projects are called [default: the run's name and six digits]")
@click.option(
    "--images",
    type=click.Choice(["local", "data", "s3"]),
    default="local",
    help="how annotators come by them: files that the server serves, inside the tasks, S3 [default: local]",
)
@click.option("--documents", type=click.Path(path_type=Path), default=None, help="local: the server's document root")
@click.option("--bucket", default=None, help="s3: the bucket; the run's folder studio-images is to be copied into it")
@click.option("--endpoint", default=None, help="s3: another S3-compatible service than AWS")
@click.option("--raters", type=click.IntRange(2, 100), default=3, help="raters of the overlap [default: 3]")
@click.option("--overlap", type=click.FloatRange(0, 1), default=1.0, help="share with several raters [default: 1]")
@click.option("--gold", default=None, help="known scores to mix in: a file of candidate scores, or `oracle`")
@click.option("--gold-share", type=click.FloatRange(0, 0.5), default=0.1, help="gold among the tasks [default: 0.1]")
@click.option("--values", type=click.Path(path_type=Path, exists=True), default=None, help="what to rate first (JSONL)")
@click.option("--reward", default=None, help="rate first what this reward is unsure about: `region`, region:FOLDER ...")
@click.option("--ranking", is_flag=True, help="each request's candidates side by side, to be ranked, and nothing else")
@click.option("--batch", type=click.IntRange(1, 5000), default=250, help="tasks in one import [default: 250]")
@JSON
def push(
    run: Path,
    url: str | None,
    token_env: str,
    studio: Path | None,
    title: str | None,
    images: str,
    documents: Path | None,
    bucket: str | None,
    endpoint: str | None,
    raters: int,
    overlap: float,
    gold: str | None,
    gold_share: float,
    values: Path | None,
    reward: str | None,
    ranking: bool,
    batch: int,
    as_json: bool,
) -> None:
    """Send what people shall rate now to Label Studio: a first round, then what they disagreed on. Repeat at will."""
    from annotation.raters.routing import RoutingSettings
    from flows.projects import studio_settings
    from flows.push import Images, Work, push_and_show

    settings, root = studio_settings(run, url, token_env, studio, batch)
    routing = RoutingSettings(overlap_raters=raters, overlap_share=overlap, gold_share=gold_share)
    how = Images(images, documents or root, bucket, endpoint)
    push_and_show(run, settings, title, how, Work(routing, gold, values, ranking, reward), as_json)


@cli.command()
@RUN
@URL
@TOKEN_ENV
@STUDIO
@click.option("--snapshot", default=None, help="name all annotations up to then as a snapshot")
@click.option("--watch", is_flag=True, help="go on until Ctrl-C")
@click.option(
    "--every", "every_s", type=click.FloatRange(1, 86_400), default=30.0, help="seconds between looks [default: 30]"
)
@click.option("--webhook", default=None, help="HOST:PORT to be woken at, too, when something changes")
@JSON
def collect(
    run: Path,
    url: str | None,
    token_env: str,
    studio: Path | None,
    snapshot: str | None,
    watch: bool,
    every_s: float,
    webhook: str | None,
    as_json: bool,
) -> None:
    """Read what is new or changed in a run's Label Studio projects into its annotation store."""
    from flows.collect import Watch, collect_and_show, watch_and_show, webhook_address
    from flows.projects import studio_settings

    settings, _ = studio_settings(run, url, token_env, studio)
    if watch:
        watch_and_show(run, settings, Watch(every_s, webhook_address(webhook)), snapshot, as_json)
    else:
        collect_and_show(run, settings, snapshot, as_json)


@cli.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="sizes and sha256 only, samples unread")
@JSON
def verify(dataset: Path, quick: bool, as_json: bool) -> None:
    """Check a dataset against its manifest: every byte, then every sample. Exit code 1 where anything differs."""
    from flows.commands import verify_dataset

    sys.exit(verify_dataset(dataset, quick, as_json))


@cli.command()
@RUN
@WORKERS
@JSON
def repair(run: Path, workers: int, as_json: bool) -> None:
    """Make anew what is damaged or missing in a run: parts, images and tars; the rest stays."""
    from flows.commands import resume_run

    resume_run(run, workers, None, as_json)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="the page [default: RUN/report.html]")
@click.option("--max-requests", type=click.IntRange(1, 10_000), default=60, help="most requests shown [default: 60]")
@JSON
def report(run: Path, out: Path | None, max_requests: int, as_json: bool) -> None:
    """Write one self-contained page to look at: samples with masks and scores, rejects, distributions."""
    from flows.commands import report_run

    report_run(run, out, max_requests, as_json)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def status(run: Path, as_json: bool) -> None:
    """Say how far a run is: parts done, rows kept and rejected by reason, for every stage."""
    from flows.commands import show_status

    show_status(run, as_json)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("key")
@JSON
def trace(run: Path, key: str, as_json: bool) -> None:
    """Follow one request or candidate (its key, id or name) through every stage of a run."""
    from flows.trace_row import trace_key

    trace_key(run, key, as_json)


@cli.command()
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


@cli.command()
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
    from flows.score import Asked, score_pairs

    score_pairs(Asked(source, edited, instruction, masks, boxes, pairs), spec, out, picture, size_px, as_json)


@cli.command()
@click.argument("instruction")
@JSON
def parse(instruction: str, as_json: bool) -> None:
    """Say what an edit instruction names: which things, what becomes of each, and what stays."""
    from flows.commands import show_parsed

    show_parsed(instruction, as_json)


@cli.command("train-reward")
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
    from flows.train_reward import Training, train_reward_of_run

    train_reward_of_run(run, Training(config_file, minutes, settings), without, with_rivals, as_json)


@cli.command("train-policy")
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


@cli.command()
@RUN
@click.option("--left-out", default=None, help="the defect that training never saw")
@click.option("--sources", type=click.IntRange(min=1), default=None, help="held-out scenes")
@JSON
def evaluate(run: Path, left_out: str | None, sources: int | None, as_json: bool) -> None:
    """Test where the reward of a run looks, beside its rivals on held-out scenes, into RUN/reward."""
    from flows.train_reward import evaluate_reward_of_run

    evaluate_reward_of_run(run, left_out, sources, as_json)


if __name__ == "__main__":
    main()
