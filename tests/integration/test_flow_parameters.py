"""The flows of `prefect.yaml`, called as Prefect calls them, with parameters that do not fit; no server is asked."""

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows.deployments.annotations import collect_annotations, push_annotations
from flows.deployments.build import build_dataset
from flows.deployments.policy import train_policy
from schemas.errors import BadInput


@pytest.mark.parametrize(
    ("flow", "parameters", "message"),
    [
        (build_dataset, {"run": 20240101, "config": {"scenes": 1}}, """parameter run: .*--param 'run="20240101"'"""),
        (build_dataset, {"run": "r", "config": "build.toml"}, "parameter config: is 'build.toml'"),
        (build_dataset, {"run": "r", "config": {"scene": 1}}, "parameter config: scene: .*did you mean scenes"),
        (build_dataset, {"run": "r", "config": {"scenes": 1}, "workers": "two"}, "parameter workers"),
        (push_annotations, {"run": 7}, "parameter run"),
        (push_annotations, {"run": "r", "raters": "many"}, "parameter raters"),
        (collect_annotations, {"run": "r", "looks": "often"}, "parameter looks"),
        (train_policy, {"run": "r", "config": "{updates: 1}"}, "parameter config"),
        (train_policy, {"run": "r", "processes": 0}, "parameter processes"),
    ],
)
def test_a_parameter_that_does_not_fit_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Flow[..., Any], parameters: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        flow.fn(**parameters)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flow", [build_dataset, push_annotations, collect_annotations, train_policy])
def test_every_flow_offers_its_parameters_with_their_words(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow)
    assert schema.required[0] == "run"
    assert all(one.get("description") for one in schema.properties.values())
