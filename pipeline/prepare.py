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
from pipeline.config import GONE_SETTINGS, RUNTIME_SETTINGS, BuildConfig
from pipeline.requests.files import read_request_file, request_file
from pipeline.requests.presence import check_sources
from pipeline.run.folder import NOT_IN_DIGEST, build_digest, read_build_info, write_build_info
from pipeline.run.places import FROM_RUN, SPECS, found_path, found_places, kept_path, kept_places
from pipeline.run.plan import PlannedLine, check_plan, plan_digest, scene_lines, write_plan
from runtime.checkout import checkout_commit
from runtime.files import sha256_of_file
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
    inputs = {kept_path(str(file), run): sha256_of_file(file) for file in files}
    resolved = kept_places(config.model_dump(mode="json"), run)
    if (run / "run.json").is_file():
        info = read_build_info(run)
        _check_same(run, info, resolved, inputs)
        check_models(run, info, config)
        check_plan(run, info)
        info = _as_now(run, info, resolved, inputs)
        check_sources(run, info)
        return info
    found = identify_models(run, config)
    numbers = {kept: number for number, kept in enumerate(inputs)}
    sources: list[Iterator[PlannedLine]] = [
        read_request_file(file, numbers[kept_path(str(file), run)]) for file in files
    ]
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
        plan=plan_digest(run),
    )
    info = info.model_copy(update={"config_digest": build_digest(info)})
    check_sources(run, info)
    return write_build_info(run, info)


def _as_now(run: Path, info: BuildInfo, resolved: dict[str, Any], inputs: dict[str, str]) -> BuildInfo:
    """The run's info with what workers read of it as it is now: device, batch size, and places."""
    now = {name: resolved[name] for name in (*NOT_IN_DIGEST, "requests", *SPECS)}
    if {name: info.config.get(name) for name in now} == now and info.inputs == inputs:
        return info
    info = info.model_copy(update={"config": info.config | now, "inputs": inputs})
    return write_build_info(run, info)


def _check_same(run: Path, info: BuildInfo, resolved: dict[str, Any], inputs: dict[str, str]) -> None:
    kept = kept_places(info.config, run)
    before, now = (_flat(config | _moved_models(kept, resolved)) for config in (kept, resolved))
    usual = _flat(BuildConfig.model_construct().model_dump(mode="json"))
    for name in sorted({*before, *now} - {"requests", *RUNTIME_SETTINGS}):
        was = before.get(name, usual.get(name))  # a setting that the run's version did not have
        if was != now.get(name) and name not in GONE_SETTINGS:
            raise RunConflict(
                str(run),
                f"was made with {name} = {was!r}, now it is {now.get(name)!r}",
                "give another --run, or the same settings",
            )
    if len(inputs) != len(info.inputs):
        fault = f"was made from {len(info.inputs)} request files, now there are {len(inputs)}"
        raise RunConflict(str(run), fault, "give another --run, or the same files")
    for path, was, digest in zip(inputs, info.inputs.values(), inputs.values(), strict=True):
        if was != digest:
            fault = f"was made from another {found_path(path, run)} (its bytes changed)"
            raise RunConflict(str(run), fault, "give another --run")


def _moved_models(kept: dict[str, Any], resolved: dict[str, Any]) -> dict[str, Any]:
    """The settings that name the same kind of model at another place: `check_models` compares their bytes."""
    named = {name: kept[name].partition(":") for name in SPECS if isinstance(kept.get(name), str)}
    same = {name for name, (kind, _, _) in named.items() if resolved[name].partition(":")[0] == kind}
    return {name: named[name][0] for name in same if named[name][2].startswith(FROM_RUN)}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Groups of settings by their dotted names, `gates.difference.close_px`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def config_of(info: BuildInfo, run: Path) -> BuildConfig:
    """The config that a run was made with, with the places of now."""
    try:
        return BuildConfig.model_validate(_without_gone(found_places(info.config, run)))
    except ValidationError as error:
        raise BadInput(f"the config in {info.name}'s run.json", first_fault(error), "make the run anew") from None


def _without_gone(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without_gone(value, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in settings.items()
        if prefix + name not in GONE_SETTINGS
    }


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
    return info, config_of(info, run)
