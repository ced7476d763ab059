"""The command line, `regionwise`: the commands together, their exit codes and errors. Imports no Prefect.

Exit code 0 done (rejects are fine), 1 failed, 2 bad input or settings, or a full disk, 3 more rejected than the allowed
share, 130 interrupted. An error is one line on stderr; with `--json` it is one object: code, thing, fault, remedy.
"""

import json
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from flows import cli_models, cli_ratings, cli_runs
from runtime.disk import told
from schemas.errors import RegionwiseError

INTERRUPTED = 130
COMMANDS = (
    *(cli_runs.build, cli_runs.resume, cli_runs.export, cli_runs.verify),
    *(cli_runs.repair, cli_runs.report, cli_runs.status, cli_runs.trace),
    *(cli_ratings.rate, cli_ratings.consensus, cli_ratings.push, cli_ratings.collect),
    *(cli_models.convert, cli_models.score, cli_models.parse),
    *(cli_models.train_reward, cli_models.train_policy, cli_models.evaluate),
)


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
    except MemoryError:
        _fail(1, "the command", "ran out of memory", "give it more and start again: what is done is kept", as_json)
    except OSError as error:
        said = told(error)
        _fail(said.exit_code, said.thing, said.fault, said.remedy, as_json)
    sys.exit(0)


def _fail(code: int, thing: str, fault: str, remedy: str, as_json: bool) -> NoReturn:
    error = RegionwiseError(thing, fault, remedy)
    print(json.dumps({**error.as_json(), "code": code}) if as_json else f"regionwise: {error}", file=sys.stderr)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="regionwise")
def cli() -> None:
    """Region-annotated image-editing data: from source and instruction to verified tar shards."""


for command in COMMANDS:
    cli.add_command(command)


if __name__ == "__main__":
    main()
