"""A run folder made ready for a build: its plan and its `run.json`, or an older one's taken up where it is the same."""

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.build_models import check_models, embedded_revisions, identify_models, keep_models, revisions_of
from pipeline.config import RUNTIME_SETTINGS, BuildConfig
from pipeline.requests.files import read_request_file, request_file
from pipeline.run.folder import NOT_IN_DIGEST, build_digest, read_build_info
from pipeline.run.plan import PlannedLine, scene_lines, write_plan
from runtime.checkout import checkout_commit
from runtime.files import sha256_of_file, write_whole
from schemas.errors import BadInput, RunConflict
from schemas.manifest import BuildInfo
from schemas.record import first_fault

PACKAGES = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "scikit-image", "scipy")


def prepare_run(run: Path, config: BuildConfig) -> BuildInfo:
    """The run's `run.json`, with its plan written first; an existing run is taken up where its config is the same.

    The caller holds the run's lock. No model is loaded.
    Raises: RunConflict, naming the setting, the file or the model that differs; BadInput.
    """
    files = [request_file(Path(path)) for path in config.requests]
    inputs = {str(file): sha256_of_file(file) for file in files}
    resolved = config.model_dump(mode="json")
    if (run / "run.json").is_file():
        info = read_build_info(run)
        _check_same(run, info, resolved, inputs)
        check_models(run, info, config)
        return _with_runtime(run, info, resolved)
    found = identify_models(run, config)
    sources: list[Iterator[PlannedLine]] = [read_request_file(file) for file in files]
    if config.scenes:
        sources.append(scene_lines(config.seed, config.scenes, config.scene_size_px, config.scene_renders))
    n_parts = write_plan(run, sources, config.part_requests)
    keep_models(run, found)
    info = BuildInfo(
        name=run.resolve().name,
        config=resolved,
        config_digest="0" * 64,
        inputs=inputs,
        n_parts=n_parts,
        seeds={"build": config.seed},
        model_revisions=embedded_revisions(config) | revisions_of(found),
        commit=checkout_commit(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        packages={name: version(name) for name in PACKAGES},
    )
    info = info.model_copy(update={"config_digest": build_digest(info)})
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def _with_runtime(run: Path, info: BuildInfo, resolved: dict[str, Any]) -> BuildInfo:
    """The run's info with the device and batch size that are asked for now, which workers read from `run.json`."""
    now = {name: resolved[name] for name in NOT_IN_DIGEST}
    if {name: info.config.get(name) for name in now} == now:
        return info
    info = info.model_copy(update={"config": info.config | now})
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def _check_same(run: Path, info: BuildInfo, resolved: dict[str, Any], inputs: dict[str, str]) -> None:
    before, now = _flat(info.config), _flat(resolved)
    for name in sorted({*before, *now} - set(RUNTIME_SETTINGS)):
        if before.get(name) != now.get(name):
            raise RunConflict(
                str(run),
                f"was made with {name} = {before.get(name)!r}, now it is {now.get(name)!r}",
                "give another --run, or the same settings",
            )
    for path, digest in inputs.items():
        if info.inputs.get(path) != digest:
            raise RunConflict(str(run), f"was made from another {path} (its bytes changed)", "give another --run")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Groups of settings by their dotted names, `gates.difference.max_shift_px`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def config_of(info: BuildInfo) -> BuildConfig:
    """The config that a run was made with."""
    try:
        return BuildConfig.model_validate(info.config)
    except ValidationError as error:
        raise BadInput(f"the config in {info.name}'s run.json", first_fault(error), "make the run anew") from None


def run_info(run: Path) -> tuple[BuildInfo, BuildConfig]:
    """A run's `run.json` and its config, read and checked once a process while the file stays as it is.

    Raises: BadInput.
    """
    path = run / "run.json"
    state = path.stat() if path.is_file() else None
    return _info_at(run, (state.st_size, state.st_mtime_ns, state.st_ino) if state else None)


@lru_cache(maxsize=4)
def _info_at(run: Path, _state: tuple[int, ...] | None) -> tuple[BuildInfo, BuildConfig]:
    info = read_build_info(run)
    return info, config_of(info)
