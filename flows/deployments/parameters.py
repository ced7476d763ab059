"""The parameters of a flow run as they come, from the command line as JSON, from a form or from an API, and checked.

Prefect checks them by the deployment's schema at most, and answers with a page; here a fault is one line.
"""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from schemas.errors import BadInput
from schemas.record import first_fault

P = ParamSpec("P")
R = TypeVar("R")
#: A run's folder; an empty one would be the checkout.
RunFolder = Annotated[str, Field(min_length=1)]
#: As many as the command line takes.
Processes = Annotated[int, Field(ge=1, le=1024)]


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with its parameters checked by their annotations, and one that is empty ('') as if it was not given.

    Raises: BadInput, naming the parameter.
    """
    hints, parameters = get_type_hints(function, include_extras=True), signature(function).parameters

    @wraps(function)
    def with_checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = _given(parameters, dict(zip(parameters, args, strict=False)) | kwargs)
        fitting: dict[str, Any] = {name: _checked(name, value, hints[name]) for name, value in given.items()}
        return function(**fitting)  # type: ignore[call-arg]

    return with_checked


def _given(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those that mean the default. Raises: BadInput for an unknown one, and one that is missing."""
    unknown = [name for name in values if name not in parameters]
    if unknown:
        raise BadInput(f"parameter {unknown[0]}", "is not known", f"give {', '.join(parameters)}")
    given = {name: values[name] for name in values if values[name] != "" or parameters[name].default is Parameter.empty}
    missing = [name for name, one in parameters.items() if one.default is Parameter.empty and name not in given]
    if missing:
        raise BadInput(f"parameter {missing[0]}", "is missing", "give it")
    return given


def _checked(name: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        fault = first_fault(error, getattr(hint, "model_fields", ()))
        raise BadInput(f"parameter {name}", f"{_shown(value)}{fault}", _remedy(name, value, error)) from None


def _shown(value: Any) -> str:
    """`is 20240101: ` for a value that a line has room for."""
    return "" if isinstance(value, dict | list) else f"is {str(value)[:80]!r}: "


def _remedy(name: str, value: Any, error: ValidationError) -> str:
    kinds = {fault["type"] for fault in error.errors()}
    if "string_type" in kinds and isinstance(value, int | float):
        return f"put it in quotes: --param '{name}={json.dumps(str(value))}'"
    if kinds & {"model_type", "dict_type"}:
        return f"""give an object: --param '{name}={{"seed": 1}}'"""
    return "see the deployment's parameters: `prefect deployment inspect`"
