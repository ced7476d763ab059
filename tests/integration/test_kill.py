"""A build that is killed again and again, each time at another moment, ends with the tars of one that was not.

Real processes and real SIGKILLs, to the main process or to one of its workers.
"""

import json
import random
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.builds import attempts, build, command, tars

STAGES, WORKERS = 4, 2


def settings(parts: int) -> tuple[str, ...]:
    """A scene to a part."""
    return "--scenes", str(parts), "--part-requests", "1", "--workers", str(WORKERS)


def units_done(run: Path) -> int:
    """Parts of stages and tars that are whole: how far a build is."""
    return sum(1 for _ in run.glob("*/*.done.json"))


def worker_processes(process: psutil.Process) -> list[psutil.Process]:
    """The pool's processes: children of the one that they are forked from; none where the build ends meanwhile."""
    try:
        servers = [child for child in process.children() if any("forkserver" in word for word in child.cmdline())]
        return [worker for server in servers for worker in server.children()]
    except psutil.NoSuchProcess:  # a zombie too
        return []


def kill_once(run: Path, parts: int, at_unit: int, chance: random.Random) -> str:
    """Starts the build and kills it once it did `at_unit` units and a moment more; says who was hit."""
    with subprocess.Popen(command(run, *settings(parts)), stderr=subprocess.PIPE, text=True) as process:
        started, watched = units_done(run), psutil.Process(process.pid)
        while units_done(run) < at_unit and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03) if units_done(run) > started else chance.uniform(0, 1.5))
        workers = worker_processes(watched) if process.poll() is None else []
        victim = chance.choice(workers) if workers and chance.random() < 0.3 else watched
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return "nobody"
        errors = process.communicate(timeout=60)[1]
    if victim is watched:
        return "main" if process.returncode == -9 else "nobody"
    assert process.returncode == 1
    assert json.loads(errors.strip().splitlines()[-1])["thing"] == "a worker process"
    return "worker"


@pytest.mark.parametrize(("kills", "parts"), [(4, 16), pytest.param(20, 32, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_the_same(tmp_path: Path, kills: int, parts: int) -> None:
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert build(whole, *settings(parts)).returncode == 0
    chance = random.Random(kills)
    moments = [0, *sorted(chance.sample(range(1, units_done(whole)), kills - 1))]
    hits = []
    for moment in moments:
        while (hit := kill_once(run, parts, moment, chance)) == "nobody":
            assert len(hits) < kills
        hits.append((hit, moment, units_done(run)))
    answer = build(run, *settings(parts))
    print(f"\nkilled, at unit, units done then: {hits}; begun again: {sum(attempts(run).values()) - parts * STAGES}")
    assert answer.returncode == 0, answer.stderr
    assert tars(run) == tars(whole)
    assert not list(run.rglob(".tmp-*"))
    again = sum(attempts(run).values()) - parts * STAGES
    assert len(attempts(run)) == parts * STAGES
    assert 0 <= again <= kills * WORKERS
    assert json.loads(build(run, *settings(parts)).stdout)["parts_made"] == 0


def test_the_request_that_a_killed_worker_was_at_is_named(tmp_path: Path) -> None:
    """A scene of 1,024 px takes most of a second: the worker is killed in the middle of it."""
    run = tmp_path / "run"
    large = ("--scenes", "8", "--scene-size-px", "1024", "--size-px", "1024", "--part-requests", "4", "--workers", "2")
    with subprocess.Popen(command(run, *large), stderr=subprocess.PIPE, text=True) as process:
        while len(list(run.glob("requests/*.attempts"))) < 2:
            assert process.poll() is None
            time.sleep(0.002)
        worker_processes(psutil.Process(process.pid))[0].kill()
        errors = process.communicate(timeout=60)[1]
    fault = json.loads(errors.strip().splitlines()[-1])["fault"]
    at = r"request 'scene 0/[0-7], render 0' of requests part [01]"
    assert re.fullmatch(rf"ended while it worked on {at} \(out of memory, or killed\)", fault)
