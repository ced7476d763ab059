"""Options of the command line that several commands share, or that are made from the fields of a settings record."""

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import click
from click.core import ParameterSource
from pydantic.fields import FieldInfo

from flows.push_settings import PushSettings
from pipeline.config import BuildConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
#: Settings that only a config file gives: they are groups of their own.
FILE_ONLY = ("splits", "gates")
#: What click asks of the paths among the settings of a push.
_PUSH_PATHS: dict[str, dict[str, Any]] = {"studio": {"file_okay": False}, "values": {"exists": True}}

RUN = click.option("--run", required=True, type=click.Path(path_type=Path), help="the run's folder")
JSON = click.option("--json", "as_json", is_flag=True, help="one JSON object instead of a table")
WORKERS = click.option("--workers", type=click.IntRange(1, 1024), default=1, help="local processes [default: 1]")
MODEL_WORKERS = click.option(
    "--model-workers",
    type=click.IntRange(1, 1024),
    default=None,
    help="processes of models on the CPU [default: workers]",
)
DASK = click.option("--dask", default=None, help="address of a Dask scheduler that shares this file system")


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One flag for every setting of `BuildConfig`, so that the two cannot drift apart."""
    for name, field in reversed(BuildConfig.model_fields.items()):
        if name not in FILE_ONLY:
            command = _config_option(name, field)(command)
    return command


def _config_option(name: str, field: FieldInfo) -> Decorator:
    flag, default = f"--{name.replace('_', '-')}", field.get_default(call_default_factory=True)
    choices = [value for value in get_args(field.annotation) if isinstance(value, str)]
    kind = click.Choice(choices) if choices else (str if isinstance(default, tuple) else type(default))
    shown = "none" if default == () else str(default)
    return click.option(
        flag, type=kind, multiple=isinstance(default, tuple), help=f"{field.description} [default: {shown}]"
    )


def given_settings(context: click.Context) -> dict[str, Any]:
    """The settings that the command line itself gives, so that a config file's stay in force otherwise."""
    return {
        name: value
        for name, value in context.params.items()
        if name in BuildConfig.model_fields and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for every setting of `PushSettings`, in their order."""
    for name in reversed(PushSettings.model_fields):
        command = push_option(name)(command)
    return command


def push_option(name: str) -> Decorator:
    """The option of one setting of `PushSettings`: its type, bounds, default and description."""
    field = PushSettings.model_fields[name]
    flag, default = f"--{name.replace('_', '-')}", field.default
    if field.annotation is bool:
        return click.option(flag, is_flag=True, help=field.description)
    shown = f"{default:g}" if isinstance(default, float) else default
    help_ = field.description if default is None else f"{field.description} [default: {shown}]"
    return click.option(flag, type=_push_type(name, field), default=default, help=help_)


def _push_type(name: str, field: FieldInfo) -> "click.ParamType[Any]":
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType]
    bounds = {key: getattr(rule, key) for rule in field.metadata for key in ("ge", "le") if hasattr(rule, key)}
    if Path in kinds:
        return click.Path(path_type=Path, **_PUSH_PATHS.get(name, {}))
    if int in kinds:
        return click.IntRange(bounds.get("ge"), bounds.get("le"))
    if float in kinds:
        return click.FloatRange(bounds.get("ge"), bounds.get("le"))
    return click.STRING if str in kinds else click.Choice(kinds)
