"""What docs/policy.md and examples/policy.toml say is what there is."""

import json
import tomllib

from flows.cli import cli
from runtime.checkout import CHECKOUT
from training.policy.config import PolicyConfig

PAGE = (CHECKOUT / "docs" / "policy.md").read_text()


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    rows = [
        line for line in PAGE.partition("| setting | default | meaning |")[2].splitlines() if line.startswith("| `")
    ]
    wanted = [
        f"| `{name}` | {'' if field.is_required() else json.dumps(field.default)} | {field.description} |"
        for name, field in PolicyConfig.model_fields.items()
    ]
    assert rows == wanted


def test_the_example_is_a_config() -> None:
    settings = tomllib.loads((CHECKOUT / "examples" / "policy.toml").read_text())
    assert PolicyConfig.model_validate({"dataset": "runs/policy/dataset", **settings}).policy == "tiny"


def test_the_command_and_the_deployments_are_listed_in_the_readme() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert "| `train-policy` |" in readme
    assert "train-policy" in cli.commands
    deployments = (CHECKOUT / "prefect.yaml").read_text()
    for entry, name in {
        "flows/deployments/policy.py:train_policy": "train-policy",
        "flows/deployments/build.py:build_dataset": "build-dataset",
    }.items():
        assert f"entrypoint: {entry}" in deployments
        assert f"`{name}/local`" in readme
