"""The commands on raters and their answers. What each does is imported when it is called."""

from pathlib import Path
from typing import Any

import click

from flows.cli_options import JSON, RUN, Decorator, push_option, push_options
from flows.push_settings import push_settings

SNAPSHOT = click.option("--snapshot", required=True, help="name of a snapshot of the annotations")


def _count_option(kind: str, default: int, what: str) -> Decorator:
    shown = f"{what} [default: {default}]"
    return click.option(f"--{kind}", f"n_{kind}", type=click.IntRange(0, 100), default=default, help=shown)


@click.command()
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
    from flows.rate import rate_run

    rate_run(run, snapshot, (n_raters, n_random, n_copying, n_bimodal), seed, as_json)


@click.command()
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
    from flows.consensus import consensus_run

    consensus_run(run, snapshot, as_json, method)


@click.command()
@RUN
@push_options
@JSON
def push(run: Path, as_json: bool, **settings: Any) -> None:
    """Send what people shall rate now to Label Studio: a first round, then what they disagreed on. Repeat at will."""
    from flows.push import push_and_show

    push_and_show(run, push_settings(settings), as_json)


@click.command()
@RUN
@push_option("url")
@push_option("token_env")
@push_option("studio")
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
    from flows.studio_clients import studio_settings

    settings, _ = studio_settings(run, url, token_env, studio)
    if watch:
        watch_and_show(run, settings, Watch(every_s, webhook_address(webhook)), snapshot, as_json)
    else:
        collect_and_show(run, settings, snapshot, as_json)
