"""The models of a build: which they are, said without loading one, and who asks them.

A stage reaches a model through `Models`, when its first row needs it. `LocalModels` loads into this process; whoever
starts a build, looks at one or makes cache keys loads nothing.

<run>/model_files.json   the models' files with their hashes (`schemas.manifest.ModelFiles`); it saves hashing them anew
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pipeline.config import BuildConfig
from pipeline.editors.plugins import editor_source, is_embedded, loaded_editor
from pipeline.editors.procedural import ProceduralEditor
from pipeline.editors.protocol import Editor
from pipeline.models.protocols import Detector, PromptSegmenter, Segmenter
from pipeline.models.registry import (
    MODEL_DETECTORS,
    PROMPT_SEGMENTERS,
    BatchSize,
    detector_source,
    loaded_detector,
    loaded_prompt_segmenter,
    prompt_segmenter_source,
)
from pipeline.models.revisions import ModelSource, as_they_were, changes, identify, remember, revision
from pipeline.regions.difference import DifferenceSegmenter
from runtime.files import write_whole
from schemas.errors import BadInput, RegionwiseError, RunConflict
from schemas.manifest import BuildInfo, ModelFiles
from schemas.record import canonical_json

#: The setting that names the model of each role.
SETTINGS = {"detector": "detector", "outliner": "segmenter", "editor": "editor"}
_FILE = "model_files.json"
#: What `revision` writes; earlier versions wrote 16 digits, or what the model said of itself.
_BY_BYTES = re.compile(r" sha256:[0-9a-f]{64}\b")


class Models(Protocol):
    """The models of one build. Each is got ready when it is first asked for, and is the same one from then on.

    A method is called for a role that the config fills with a model, and from one thread at a time.
    Raises: RegionwiseError, naming the model or its file, where it cannot be had.
    """

    def detector(self) -> Detector:
        """What finds the things that instructions name."""
        ...

    def outliner(self) -> PromptSegmenter:
        """What outlines planned regions."""
        ...

    def editor(self) -> Editor:
        """What makes the candidates, the embedded editor, too."""
        ...


class LocalModels:
    """`Models` in this process; the same files are loaded once for all that ask.

    run: the run folder whose files they have to be; None for files as they are.
    """

    def __init__(self, config: BuildConfig, run: Path | None = None) -> None:
        self._config, self._run = config, run

    def detector(self) -> Detector:
        """As `Models.detector`. Raises: BadInput for a bad checkpoint; RunConflict for another; MissingPackage."""
        return self._detector

    def outliner(self) -> PromptSegmenter:
        """As `Models.outliner`. Raises: as `detector`."""
        return self._outliner

    def editor(self) -> Editor:
        """As `Models.editor`. Raises: as `detector`."""
        return self._editor

    @cached_property
    def _detector(self) -> Detector:
        with self._files_as_they_were("detector"):
            return loaded_detector(self._config.detector, self._config.device, _batch_size(self._config))

    @cached_property
    def _outliner(self) -> PromptSegmenter:
        with self._files_as_they_were("outliner"):
            return loaded_prompt_segmenter(self._config.segmenter, self._config.device, _batch_size(self._config))

    @cached_property
    def _editor(self) -> Editor:
        if is_embedded(self._config.editor):
            return ProceduralEditor(self._config.leave_out_defects)
        with self._files_as_they_were("editor"):
            return loaded_editor(self._config.editor, self._config.device)

    @contextmanager
    def _files_as_they_were(self, role: str) -> Iterator[None]:
        kept = _read_kept(self._run) if self._run else None
        identity = kept.models.get(role) if kept else None
        with as_they_were(identity.files if identity else ()):
            yield


def _batch_size(config: BuildConfig) -> BatchSize:
    return "auto" if config.batch_size == "auto" else int(config.batch_size)


def model_roles(config: BuildConfig) -> tuple[str, ...]:
    """The roles that a config fills with models; what is embedded (targets, difference, procedural) is none."""
    is_model = {
        "detector": config.detector.partition(":")[0] in MODEL_DETECTORS,
        "outliner": config.segmenter.partition(":")[0] in PROMPT_SEGMENTERS,
        "editor": not is_embedded(config.editor),
    }
    return tuple(role for role in SETTINGS if is_model[role])


def identify_models(run: Path, config: BuildConfig) -> ModelFiles:
    """The models of a config as their files are now; what the run keeps of unchanged files is not hashed again.

    Raises: BadInput, naming the file and where to get it, where one is missing; MissingPackage.
    """
    sources = {role: _source(role, config) for role in model_roles(config)}
    if sources:
        _read_kept(run)
    return ModelFiles(models={role: identify(source) for role, source in sources.items()})


def _source(role: str, config: BuildConfig) -> ModelSource:
    if role == "detector":
        return detector_source(config.detector)
    return prompt_segmenter_source(config.segmenter) if role == "outliner" else editor_source(config.editor)


def revisions_of(found: ModelFiles) -> dict[str, str]:
    """Each model's name and revision by its role, as `run.json` has them."""
    return {role: f"{identity.name} {revision(identity)}" for role, identity in found.models.items()}


def name_and_revision(revisions: Mapping[str, str | None], role: str) -> list[str]:
    """A model as the settings of its stage have it. Raises: BadInput where `run.json` does not name it."""
    name, _, said = (revisions.get(role) or "").partition(" ")
    if not said:
        raise BadInput("run.json", f"names no model as the {role}", "make the run anew in another folder")
    return [name, said]


def check_models(run: Path, info: BuildInfo, config: BuildConfig) -> None:
    """Compares a run's models with their files as they are now, and keeps what was hashed anew.

    Raises: RunConflict, naming the model and what of it changed, or an earlier version's run; BadInput where a file is
    missing.
    """
    before = _read_kept(run)
    found = identify_models(run, config)
    for role, now in revisions_of(found).items():
        was = info.model_revisions.get(role) or "none"
        what = f"{role} {getattr(config, SETTINGS[role])}"
        if not _BY_BYTES.search(was):
            fault = f"was made by an earlier version, which kept no hash of all bytes of its {what}"
            raise RunConflict(str(run), fault, "finish it with that version, or give another --run")
        if was != now:
            is_kept = before is not None and revisions_of(before).get(role) == was
            differs = changes(before.models[role], found.models[role]) if before is not None and is_kept else []
            more = f" (+{len(differs) - 1} more)" if len(differs) > 1 else ""
            fault = f"was made with another {what}: {differs[0] if differs else f'it was {was}'}{more}"
            raise RunConflict(str(run), fault, "put it back, or give another --run")
    if found.models and found != before:
        keep_models(run, found)


def keep_models(run: Path, found: ModelFiles) -> None:
    """Writes what the run keeps of its models, whole; a build without models keeps nothing."""
    if found.models:
        write_whole(run / _FILE, canonical_json(found.model_dump(mode="json")))


def _read_kept(run: Path) -> ModelFiles | None:
    """What a run keeps of its models, remembered by this process; None where it keeps nothing that can be read."""
    path = run / _FILE
    try:
        written_ns, kept = path.stat().st_mtime_ns, ModelFiles.from_json(path.read_bytes(), thing=str(path))
    except (OSError, RegionwiseError):
        return None
    for identity in kept.models.values():
        remember(identity.files, written_ns)
    return kept


def make_segmenter(config: BuildConfig) -> Segmenter:
    """The segmenter that the config names."""
    return DifferenceSegmenter(config.gates.difference)


def embedded_revisions(config: BuildConfig) -> dict[str, str]:
    """The revisions of what is embedded, by role."""
    editor = {"editor": embedded_editor_revision(config)} if is_embedded(config.editor) else {}
    return {**editor, "segmenter": make_segmenter(config).revision}


def embedded_editor_revision(config: BuildConfig) -> str:
    """The revision of the procedural editor."""
    return ProceduralEditor(config.leave_out_defects).revision
