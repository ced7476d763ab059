"""The settings of a push: the command line and the deployment offer the same ones, and what does not fit is refused.

The deployment's signature is read from its source: importing it imports Prefect. `tests/integration/test_prefect.py`
asks a server for it.
"""

import ast
from pathlib import Path
from typing import Any

import pytest

from flows.cli_ratings import push
from flows.push_settings import TOKEN_ENV, PushSettings, push_settings
from runtime.checkout import CHECKOUT
from schemas.errors import BadInput


def _record_defaults() -> dict[str, Any]:
    return {name: field.default for name, field in PushSettings.model_fields.items()}


def _deployment_defaults() -> dict[str, Any]:
    tree = ast.parse((CHECKOUT / "flows" / "deployments" / "annotations.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    (arguments,) = (node.args for node in functions if node.name == "push_annotations")
    names = [argument.arg for argument in arguments.args]
    assert names[0] == "run"
    values = [
        TOKEN_ENV if isinstance(node, ast.Name) and node.id == "TOKEN_ENV" else ast.literal_eval(node)
        for node in arguments.defaults
    ]
    return dict(zip(names[1:], values, strict=True))


def test_command_line_and_deployment_offer_the_same_settings_with_the_same_defaults() -> None:
    options = {str(option.name): option for option in push.params}
    command_line = {name: options[name].get_default(push.make_context("push", ["--run", "r"])) for name in options}
    assert command_line.keys() - {"run", "as_json"} == PushSettings.model_fields.keys()
    assert {name: command_line[name] for name in PushSettings.model_fields} == _record_defaults()
    assert _deployment_defaults() == _record_defaults()


def test_the_names_of_options_stay() -> None:
    flags = {flag for option in push.params for flag in option.opts}
    assert flags == {
        *("--run", "--url", "--token-env", "--studio", "--title", "--images", "--documents", "--bucket", "--endpoint"),
        *("--raters", "--overlap", "--gold", "--gold-share", "--values", "--reward", "--ranking", "--batch", "--json"),
    }


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in PushSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("given", "name"),
    [({"raters": 1}, "raters"), ({"gold_share": 0.6}, "gold_share"), ({"images": "ftp"}, "images"), ({"x": 1}, "x")],
)
def test_a_setting_that_does_not_fit_is_one_line(given: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=name) as error:
        push_settings(given)
    assert "\n" not in str(error.value)


def test_values_come_from_one_place_and_rankings_have_no_gold() -> None:
    with pytest.raises(BadInput, match="give one of them"):
        PushSettings(values=Path("x"), reward="region")
    with pytest.raises(BadInput, match="gold among rankings"):
        PushSettings(ranking=True, gold="oracle")
