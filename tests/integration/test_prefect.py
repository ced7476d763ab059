"""The deployment on a real Prefect server and worker, started as `make serve` starts them."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from distributed import LocalCluster

from annotation.store import open_store, store_path
from annotation.studio.link import require_link
from annotation.studio.server import Studio
from flows.deployments.serve import CHECKOUT, PREFECT, Served, serve
from flows.push_settings import PushSettings
from pipeline.run.folder import read_build_info, read_kept
from runtime.processes import free_port
from schemas.sample import Sample
from tests.cases.tiny_policy import QUICK, plain_run, random_tiny
from tests.integration.builds import attempts, build, tars, written

CANNOT_JUDGE = {
    "result": [
        {
            "id": "a",
            "from_name": "cannot_judge",
            "to_name": "edited",
            "type": "choices",
            "value": {"choices": ["cannot judge"]},
        }
    ]
}
CONFIG = {"scenes": 12, "scene_size_px": 64, "size_px": 64, "part_requests": 3, "shard_samples": 16}
FLAGS = ("--scenes", "12", "--part-requests", "3")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Server, worker and deployment; all their processes are gone at the end."""
    with serve(tmp_path_factory.mktemp("prefect"), free_port()) as served:
        yield served
        processes = [psutil.Process(process.pid) for process in served.processes]
        processes += [child for process in processes for child in process.children(recursive=True)]
    assert [process for process in processes if process.is_running()] == []


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tars that the command line makes of the same settings."""
    run = tmp_path_factory.mktemp("command") / "run"
    answer = build(run, *FLAGS)
    assert answer.returncode == 0, answer.stderr
    return tars(run)


@pytest.fixture(scope="module")
def built(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the deployment built."""
    run = tmp_path_factory.mktemp("deployment") / "run"
    answer = deploy(served, run, CONFIG)
    assert answer.returncode == 0, answer.stdout
    assert "finished successfully" in answer.stdout
    return run


def deploy(served: Served, run: Path, config: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """`prefect deployment run build-dataset/local --watch`, as a person types it."""
    parameters = ("--param", f"run={run}", "--param", f"config={json.dumps(config)}")
    arguments = [*PREFECT, "deployment", "run", "build-dataset/local", *parameters, "--watch"]
    return subprocess.run(
        arguments, env=served.environment, capture_output=True, text=True, timeout=300, check=False, cwd=CHECKOUT
    )


def start(served: Served, flow: str, **parameters: object) -> str:
    """Starts a deployment as the server's page does, and returns its flow run's id."""
    deployment = asked(served, "GET", f"deployments/name/{flow}/local")["id"]
    return str(asked(served, "POST", f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])


def state_of(served: Served, flow_run: str) -> dict[str, Any]:
    """The state of a flow run as it is now."""
    return dict(asked(served, "GET", f"flow_runs/{flow_run}")["state"])


def asked(served: Served, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers. Where its database is locked it says 503 and is asked again, as by Prefect's client."""
    for _ in range(20):
        answer = httpx.request(method, f"{served.url}/api/{path}", json=body, trust_env=False, timeout=30)
        if answer.status_code != 503:
            break
        time.sleep(1)
    assert answer.is_success, answer.text
    return answer.json()


def launch(served: Served, flow: str, **parameters: object) -> str:
    """Starts a deployment and waits for its end, which must be a good one; its flow run's id."""
    flow_run, state = ended(served, flow, **parameters)
    assert state["type"] == "COMPLETED", state
    return flow_run


def ended(served: Served, flow: str, **parameters: object) -> tuple[str, dict[str, Any]]:
    """Starts a deployment and waits for its end; its flow run's id and last state."""
    flow_run = start(served, flow, **parameters)
    wait_for(lambda: state_of(served, flow_run)["type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED"))
    return flow_run, state_of(served, flow_run)


def failed_with(served: Served, flow: str, **parameters: object) -> str:
    """The state message of a flow run that must end as Failed."""
    _, state = ended(served, flow, **parameters)
    assert state["type"] == "FAILED", state
    assert "\n" not in state["message"]
    return str(state["message"])


def wait_for(done: Callable[[], bool]) -> None:
    """Waits until something is so, for five minutes at most."""
    deadline = time.monotonic() + 300
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)


def ask(served: Served, path: str) -> Any:
    """What the server lists at `<path>/filter`, newest first."""
    sort = {"artifacts": "CREATED_DESC", "logs": "TIMESTAMP_DESC", "deployments": "NAME_ASC"}.get(
        path, "EXPECTED_START_TIME_DESC"
    )
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{served.url}/api/{path}/filter", json.dumps({"sort": sort}).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_the_deployment_writes_the_same_tars_as_the_command_line(built: Path, wanted: dict[str, str]) -> None:
    assert tars(built) == wanted
    assert len(wanted) > 1
    assert (built / "report.html").stat().st_size > 10_000


def test_a_dask_cluster_does_the_same_for_the_deployment(
    served: Served, wanted: dict[str, str], tmp_path: Path
) -> None:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        dask = cluster.scheduler_address
        launch(served, "build-dataset", run=str(tmp_path / "run"), config=CONFIG, dask=dask)
    assert tars(tmp_path / "run") == wanted


def test_counts_and_places_are_artifacts(served: Served, built: Path) -> None:
    artifacts = ask(served, "artifacts")
    manifest = str(built / "dataset" / "manifest.json")
    places = next(found for found in artifacts if found["key"] == "build-places" and manifest in found["data"])
    same_run = [found for found in artifacts if found["flow_run_id"] == places["flow_run_id"]]
    rows = json.loads(next(found["data"] for found in same_run if found["key"] == "build-counts"))
    assert [row["stage"] for row in rows] == ["requests", "candidates", "regions", "gates", "export"]
    assert (rows[0]["rows in"], rows[1]["kept"]) == (12, 48)


def test_pushing_and_collecting_are_deployments_too(served: Served, built: Path, running_studio: Studio) -> None:
    places = {"run": str(built), "studio": str(running_studio.data)}
    launch(served, "push-annotations", **places, raters=2)
    (project,) = require_link(built).projects.values()
    with httpx.Client(headers={"Authorization": f"Token {running_studio.account.token}"}, trust_env=False) as http:
        found = http.get(f"{running_studio.url}/api/projects/{project}/").json()
        task = http.get(f"{running_studio.url}/api/tasks/?project={project}&page_size=1").json()["tasks"][0]
        answer = http.post(f"{running_studio.url}/api/tasks/{task['id']}/annotations/", json=CANNOT_JUDGE)
        assert answer.status_code == 201
    assert (found["task_number"], found["maximum_annotations"]) == (len(kept(built)), 2)
    launch(served, "collect-annotations", **places, snapshot="from-prefect")
    with open_store(store_path(built)) as store:
        assert store.count(store.snapshot("from-prefect").high_water) == 1
    tables = {found["key"]: found["data"] for found in ask(served, "artifacts")}
    assert '"fact": "annotations", "value": "1"' in tables["annotations-collected"]
    assert running_studio.account.token not in json.dumps(tables)


def test_the_push_deployment_offers_what_the_command_line_does(served: Served) -> None:
    (deployment,) = (one for one in ask(served, "deployments") if one["entrypoint"].endswith(":push_annotations"))
    offered = deployment["parameter_openapi_schema"]["properties"]
    wanted = {name: field.default for name, field in PushSettings.model_fields.items()}
    assert {name: one.get("default") for name, one in offered.items() if name != "run"} == wanted


def kept(run: Path) -> list[Sample]:
    """What the gates of a run kept."""
    return [sample for part in range(read_build_info(run).n_parts) for sample in read_kept(run, "gates", part)]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy with random weights."""
    return random_tiny(tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plain scenes, which a policy can be asked."""
    return plain_run(tmp_path_factory.mktemp("plain") / "run")


def training(run: Path, base: Path, name: str, **changes: object) -> dict[str, object]:
    """The parameters of a training of two small updates."""
    return {"run": str(run), "name": name, "config": {"policy": f"tiny:{base}", **QUICK, **changes}}


def test_a_policy_is_trained_with_its_log_and_figures_in_the_flow_run(
    served: Served, plain: Path, untrained: Path
) -> None:
    flow_run = launch(served, "train-policy", **training(plain, untrained, "policy"))
    told = json.loads((plain / "policy" / "policy" / "evaluation.json").read_bytes())
    phi = next(row for row in told["figures"] if row["what"] == "region_phi")
    lines = [log["message"] for log in ask(served, "logs") if log["flow_run_id"] == flow_run]
    assert [line for line in lines if line.startswith("update 2 of 2: region reward")]
    table = next(found for found in ask(served, "artifacts") if found["key"] == "policy-figures")
    assert table["flow_run_id"] == flow_run
    rows = {row["held-out requests"]: (row["before"], row["after"]) for row in json.loads(table["data"])}
    assert rows["region_phi"][0].startswith(f"{phi['first']['value']:.3f}")
    assert rows["region_phi"][1].startswith(f"{phi['second']['value']:.3f}")


def test_a_bad_setting_of_a_training_is_the_message_of_its_flow_run(
    served: Served, plain: Path, untrained: Path
) -> None:
    message = failed_with(served, "train-policy", **training(plain, untrained, "bad", group=1))
    assert "settings: group" in message
    assert "see training/policy/config.py" in message


def test_a_cancelled_training_ends_with_its_flow_run(served: Served, plain: Path, untrained: Path) -> None:
    parameters = training(plain, untrained, "long", updates=100_000, evaluate_every=100_000)
    commands = {"env": served.environment, "capture_output": True, "text": True, "timeout": 120, "cwd": CHECKOUT}
    flow_run = start(served, "train-policy", **parameters)
    wait_for(lambda: any(log["message"].startswith("update 1 of 100000") for log in ask(served, "logs")))
    pid = json.loads((plain / "policy" / "long" / ".lock.json").read_text())["process"]
    assert psutil.Process(pid).is_running()
    cancelled = subprocess.run([*PREFECT, "flow-run", "cancel", flow_run], check=False, **commands)
    assert cancelled.returncode == 0, cancelled.stderr
    wait_for(lambda: not psutil.pid_exists(pid))
    wait_for(lambda: state_of(served, flow_run)["type"] == "CANCELLED")


def test_again_it_does_no_work(served: Served, built: Path) -> None:
    before = attempts(built), written(built)
    flow_run = launch(served, "build-dataset", run=str(built), config=CONFIG)
    tasks = [task for task in ask(served, "task_runs") if task["flow_run_id"] == flow_run]
    assert sum(task["state_name"] == "Cached" for task in tasks) == len(before[0]) == 16
    assert (attempts(built), written(built)) == before


def test_damaged_parts_are_made_anew_past_the_cache(served: Served, built: Path, wanted: dict[str, str]) -> None:
    damaged = ("regions/part-00002.parquet", "images/candidates/part-00001.tar")
    before, whole = attempts(built), {name: (built / name).read_bytes() for name in damaged}
    for name, data in whole.items():
        middle = len(data) // 2
        (built / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    launch(served, "build-dataset", run=str(built), config=CONFIG)
    assert {name: (built / name).read_bytes() for name in damaged} == whole
    begun = {name for name, count in attempts(built).items() if count != before[name]}
    assert begun == {"regions/part-00002.attempts", "candidates/part-00001.attempts"}
    assert tars(built) == wanted


def test_a_bad_setting_fails_the_run_with_one_line(served: Served, tmp_path: Path) -> None:
    message = failed_with(served, "build-dataset", run=str(tmp_path / "run"), config=CONFIG | {"editor": "nosuch"})
    assert "editor 'nosuch': is not known; choose one of procedural" in message
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_setting_out_of_range_is_refused_before_it_runs(served: Served, tmp_path: Path) -> None:
    answer = deploy(served, tmp_path / "run", CONFIG | {"k": 0})
    assert answer.returncode == 1
    assert "config.k" in answer.stdout


def test_another_config_fails_the_run_naming_the_field(served: Served, built: Path) -> None:
    message = failed_with(served, "build-dataset", run=str(built), config=CONFIG | {"seed": 3})
    assert "was made with seed = 0, now it is 3" in message


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = [sys.executable, "-m", "flows.deployments.serve", "--data", str(tmp_path), "--port", str(port)]
        answer = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, cwd=CHECKOUT)
    assert answer.returncode == 2
    assert answer.stderr == f"regionwise: port {port}: is taken; give another --port, or none for a free one\n"
