"""Parameters of flow runs: what fits is taken, what does not is one line with the parameter's name."""

from typing import Any, Literal

import pytest

from flows.deployments.parameters import Processes, RunFolder, checked
from pipeline.config import BuildConfig
from schemas.errors import BadInput


@checked
def _flow(
    run: RunFolder,
    config: BuildConfig,
    workers: Processes = 2,
    dask: str | None = None,
    images: Literal["local", "s3"] = "local",
    settings: dict[str, Any] | None = None,
) -> list[Any]:
    return [run, config.scenes, workers, dask, images, settings]


GOOD = {"run": "runs/a", "config": {"scenes": 3}}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, ["runs/a", 3, 2, None, "local", None]),
        ({"workers": "4", "dask": "tcp://a:1"}, ["runs/a", 3, 4, "tcp://a:1", "local", None]),
        ({"config": BuildConfig(scenes=5)}, ["runs/a", 5, 2, None, "local", None]),
        (dict.fromkeys(("workers", "dask", "images", "settings"), ""), ["runs/a", 3, 2, None, "local", None]),
    ],
)
def test_what_fits_is_taken_and_what_is_empty_is_the_default(given: dict[str, Any], taken: list[Any]) -> None:
    assert _flow(**GOOD | given) == taken


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"run": 20240101},
            """parameter run: is '20240101': Input should be a valid string; put it in quotes: --param""",
        ),
        ({"run": ""}, "parameter run: is ''"),
        ({"run": None}, "parameter run"),
        ({"config": "build.toml"}, "parameter config: is 'build.toml'"),
        ({"config": '{"scenes": 1}'}, "give an object: --param 'config="),
        ({"config": {"scenes": "many"}}, "parameter config: scenes"),
        ({"config": {"scene": 1}}, "did you mean scenes?"),
        ({"workers": "two"}, "parameter workers: is 'two'"),
        ({"workers": 2.5}, "parameter workers: is '2.5'"),
        ({"workers": 0}, "parameter workers"),
        ({"images": "ftp"}, "parameter images: is 'ftp'"),
        ({"settings": "a=1"}, "parameter settings: is 'a=1'"),
        ({"worker": 2}, "parameter worker: is not known; give run, config, workers"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_parameter(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        _flow(**GOOD | given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_is_missing_is_named() -> None:
    with pytest.raises(BadInput, match="parameter config: is missing"):
        _flow(run="a")  # type: ignore[call-arg]
