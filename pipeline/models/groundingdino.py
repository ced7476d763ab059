"""The detector `groundingdino:PATH`: IDEA's own code (package groundingdino-py) with its published checkpoints.

PATH is a `.pth` file, or the `.safetensors` that `regionwise convert` makes of one. Beside it lies a folder
`bert-base-uncased` with BERT's `config.json` and its vocabulary; BERT's weights are in the checkpoint. Nothing is
fetched.
"""

import ast
import json
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline.models.checkpoint import (
    Weights,
    check_fits,
    go_offline,
    load_local,
    quiet_transformers,
    read_json,
    read_weights,
    require_file,
    require_package,
)
from pipeline.models.detections import DetectSettings, Floats
from pipeline.models.devices import choose_device
from pipeline.models.grounding import GroundingDetector, Offsets, Pixels, Preprocessing
from pipeline.models.groundingdino_keys import SWIN, UNUSED
from pipeline.models.revisions import revision_of
from schemas.errors import BadInput

if TYPE_CHECKING:
    import torch

NAME = "groundingdino"
PAGE = "https://github.com/IDEA-Research/GroundingDINO/releases"
BERT_PAGE = "https://huggingface.co/google-bert/bert-base-uncased"
BERT_FOLDER = "bert-base-uncased"
INSTALL = "pip install transformers timm addict yapf termcolor matplotlib && pip install --no-deps groundingdino-py"
#: Where a safetensors file made by `regionwise convert` keeps the model's settings, as JSON.
SETTINGS_KEY = "groundingdino_settings"
#: Published checkpoints by the beginning of their file's name, and the settings of the package that they belong to.
PUBLISHED = {
    "groundingdino_swint_ogc": "GroundingDINO_SwinT_OGC.py",
    "groundingdino_swinb_cogcoor": "GroundingDINO_SwinB_cfg.py",
}
_BUILDING = threading.Lock()


def load(place: Path, device: str = "cpu", settings: DetectSettings | None = None) -> GroundingDetector:
    """The detector of a checkpoint.

    Raises: BadInput, naming the file, where the checkpoint, its settings or BERT's files are missing, damaged or do not
    fit each other; MissingPackage.
    """
    sources = files(place)
    tokenizer, text_config = load_bert(place.parent / BERT_FOLDER)
    torch_device = choose_device(device, f"{NAME}:{place}")
    weights = read_weights(place)
    used = model_settings(place, weights)
    model = build(used, text_config, tokenizer)
    fill(model, weights.tensors, place)
    return GroundingDetector(
        NAME,
        revision_of(sources),
        PackageModel(model.to(torch_device)),
        offsets_of(tokenizer),
        settings or DetectSettings(),
        Preprocessing(),
    )


def files(place: Path) -> list[Path]:
    """Checkpoint, BERT's files, settings beside it. Raises: BadInput, naming the file that is missing."""
    require_file(place, "a GroundingDINO checkpoint", PAGE)
    bert = place.parent / BERT_FOLDER
    require_bert(bert)
    return [place, *bert_files(bert), *([config_beside(place)] if config_beside(place).is_file() else [])]


class PackageModel:
    """A `GroundingModel` around groundingdino-py's module."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def answer(self, pixels: Pixels, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """See `GroundingModel`."""
        import torch
        from groundingdino.util.misc import NestedTensor

        images = torch.from_numpy(pixels).to(next(self._model.parameters()).device)
        padding = torch.zeros_like(images[:, 0], dtype=torch.bool)
        with torch.inference_mode(), quiet():
            answer = self._model(NestedTensor(images, padding), captions=list(captions))
        boxes, logits = answer["pred_boxes"], answer["pred_logits"]
        return boxes.float().cpu().numpy(), logits.float().cpu().numpy()


def bert_files(folder: Path) -> list[Path]:
    """The files of BERT that are read: its settings and its vocabulary."""
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    return [folder / name for name in names if (folder / name).is_file()]


def load_bert(folder: Path) -> tuple[Any, dict[str, Any]]:
    """BERT's tokenizer and settings from a local folder. Raises: BadInput, naming the missing file; MissingPackage."""
    go_offline()
    transformers = require_package("transformers", NAME, "pip install transformers")
    text_config = require_bert(folder)
    return load_local(transformers.BertTokenizerFast, folder, "tokenizer", BERT_PAGE), text_config


def require_bert(folder: Path) -> dict[str, Any]:
    """BERT's settings from a local folder. Raises: BadInput, naming the file that is missing or of another model."""
    text_config = read_json(require_file(folder / "config.json", "BERT's settings", BERT_PAGE))
    if not (folder / "tokenizer.json").is_file():
        require_file(folder / "vocab.txt", "BERT's vocabulary", BERT_PAGE)
    if text_config.get("model_type") != "bert":
        fault = f"is of a {str(text_config.get('model_type'))[:80]!r} model, expected 'bert'"
        raise BadInput(str(folder / "config.json"), fault, f"download it from {BERT_PAGE}")
    return text_config


def offsets_of(tokenizer: Any) -> Offsets:
    """The characters of every token of a text, by a tokenizer of transformers."""

    def offsets(text: str) -> Sequence[tuple[int, int]]:
        return [(start, end) for start, end in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]

    return offsets


def config_beside(place: Path) -> Path:
    """Where settings of one's own lie: the checkpoint's name with `.py`."""
    return place.with_suffix(".py")


def model_settings(place: Path, weights: Weights) -> dict[str, Any]:
    """The settings of a checkpoint's model: those in its metadata, else beside it, else known by its published name.

    Raises: BadInput where there are none, or where they are no settings of GroundingDINO.
    """
    if SETTINGS_KEY in weights.metadata:
        try:
            found = json.loads(weights.metadata[SETTINGS_KEY])
        except ValueError as error:
            raise BadInput(str(place), f"has broken {SETTINGS_KEY}: {error}", "convert it anew") from None
        return checked_settings(found, place)
    beside = config_beside(place)
    if beside.is_file():
        return checked_settings(read_literals(beside), beside)
    for beginning, file in PUBLISHED.items():
        if place.name.startswith(beginning):
            return published_settings(file)
    fault = f"is none of {', '.join(PUBLISHED)} and has no settings beside it"
    raise BadInput(str(place), fault, f"put its config there as {beside.name}, or keep the published name")


def published_settings(file: str) -> dict[str, Any]:
    """The settings in a config file of the package groundingdino-py."""
    package = require_package("groundingdino", NAME, INSTALL)
    path = Path(package.__file__).parent / "config" / file
    return checked_settings(read_literals(require_file(path, "a config of groundingdino-py", PAGE)), path)


def read_literals(path: Path) -> dict[str, Any]:
    """The plain assignments in a Python file, read as data: nothing of it is run. Raises: BadInput, naming the line."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:  # MemoryError: nested too deep
        raise BadInput(str(path), f"cannot be read: {error}", "give the config that came with the checkpoint") from None
    found: dict[str, Any] = {}
    for statement in tree.body:
        try:
            (target,) = statement.targets  # type: ignore[attr-defined]
            found[target.id] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
        except (AttributeError, ValueError, TypeError, RecursionError):
            fault = f"has more than plain settings in line {statement.lineno}, and nothing of it is run"
            raise BadInput(str(path), fault, "leave `name = value` lines alone") from None
    return found


def checked_settings(found: Any, source: Path) -> dict[str, Any]:
    """`found` over the published defaults' names. Raises: BadInput where a setting is missing or of another kind."""
    if not isinstance(found, dict):
        raise BadInput(str(source), "holds no settings", "give the config that came with the checkpoint")
    wrong = [name for name, kind in _KINDS.items() if type(found.get(name)) is not kind]
    if wrong:
        fault = f"has {wrong[0]} = {found.get(wrong[0])!r}, expected a {_KINDS[wrong[0]].__name__}"
        raise BadInput(str(source), fault, "give the config that came with the checkpoint")
    if found["backbone"] not in SWIN:
        fault = f"has backbone {found['backbone'][:80]!r}, expected one of {', '.join(SWIN)}"
        raise BadInput(str(source), fault, "give the config that came with the checkpoint")
    return {name: found[name] for name in _KINDS}


_KINDS: dict[str, type] = {
    **dict.fromkeys(("backbone", "position_embedding", "two_stage_type", "transformer_activation"), str),
    **dict.fromkeys(("dropout", "text_dropout", "fusion_dropout", "fusion_droppath"), float),
    **dict.fromkeys(("dn_box_noise_scale", "dn_label_noise_ratio"), float),
    **dict.fromkeys(("pre_norm", "two_stage_bbox_embed_share", "two_stage_class_embed_share"), bool),
    **dict.fromkeys(("dec_pred_bbox_embed_share", "embed_init_tgt", "sub_sentence_present"), bool),
    **dict.fromkeys(("use_text_enhancer", "use_fusion_layer", "use_text_cross_attention"), bool),
    **dict.fromkeys(("pe_temperatureH", "pe_temperatureW", "enc_layers", "dec_layers", "dim_feedforward"), int),
    **dict.fromkeys(("hidden_dim", "nheads", "num_queries", "query_dim", "num_patterns", "max_text_len"), int),
    **dict.fromkeys(("num_feature_levels", "enc_n_points", "dec_n_points", "dn_labelbook_size"), int),
    "return_interm_indices": list,
}


def build(settings: Mapping[str, Any], text_config: Mapping[str, Any], tokenizer: Any) -> "torch.nn.Module":
    """groundingdino-py's model with random weights, for inference. Raises: BadInput where the settings make none."""
    import_package()
    from groundingdino.models.GroundingDINO.groundingdino import build_groundingdino

    needed = {"backbone_freeze_keywords": None, "use_checkpoint": False, "use_transformer_ckpt": False}
    arguments = SimpleNamespace(**settings, **needed, text_encoder_type=BERT_FOLDER)
    try:
        with _local_bert(text_config, tokenizer), quiet():
            model: torch.nn.Module = build_groundingdino(arguments)
    except (AssertionError, ValueError, TypeError, RuntimeError, NotImplementedError, IndexError) as error:
        raise BadInput(f"{NAME} settings", f"make no model: {error}", "give the config of the checkpoint") from None
    return model.eval().requires_grad_(False)


def import_package() -> None:
    """Imports groundingdino-py. Raises: MissingPackage, naming what is missing, with the install line."""
    with quiet():
        require_package("groundingdino.models.GroundingDINO.groundingdino", NAME, INSTALL)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of groundingdino-py 0.4.0 about its own code, which its user can do nothing about."""
    with warnings.catch_warnings(), quiet_transformers():  # it says that BERT's `use_return_dict` is deprecated
        warnings.filterwarnings("ignore", "Importing from timm.models.layers is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
        warnings.filterwarnings("ignore", r"`torch.cuda.amp.autocast\(args...\)` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", ".*CUDA is not available", UserWarning)  # its autocast, on a CPU
        yield


@contextmanager
def _local_bert(text_config: Mapping[str, Any], tokenizer: Any) -> Iterator[None]:
    """While a model is built, the package takes this BERT and tokenizer where it would fetch `bert-base-uncased`."""
    from groundingdino.util import get_tokenlizer as package

    with _BUILDING:
        before = package.get_tokenlizer, package.get_pretrained_language_model
        package.get_tokenlizer = lambda _name: tokenizer
        package.get_pretrained_language_model = lambda _name: _old_bert(text_config)
        try:
            yield
        finally:
            package.get_tokenlizer, package.get_pretrained_language_model = before


def _old_bert(text_config: Mapping[str, Any]) -> Any:
    """A BertModel with the three methods that groundingdino-py 0.4.0 asks for and transformers 5 no longer has."""
    import torch
    from transformers import BertConfig, BertModel

    class OldBert(BertModel):  # type: ignore[misc]
        def get_extended_attention_mask(
            self, mask: torch.Tensor, _shape: Any = None, _device: Any = None
        ) -> torch.Tensor:
            """0 where a token may look, the lowest number elsewhere; (B, T) or (B, T, T) -> (B, 1, 1 or T, T)."""
            shown = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
            return (1 - shown.to(self.dtype)) * torch.finfo(self.dtype).min

        def invert_attention_mask(self, mask: torch.Tensor) -> torch.Tensor:
            return self.get_extended_attention_mask(mask)

        def get_head_mask(self, _mask: None, layers: int) -> list[None]:
            return [None] * layers

    return OldBert(BertConfig(**{name: value for name, value in text_config.items() if name != "model_type"}))


def fill(model: "torch.nn.Module", tensors: Mapping[str, "torch.Tensor"], source: Path) -> None:
    """Puts a checkpoint's weights into the model. Raises: BadInput where they are of another architecture."""
    wanted = model.state_dict()
    computed = {name: tensor for name, tensor in wanted.items() if UNUSED.match(name)}
    given = {name: tensor for name, tensor in tensors.items() if not UNUSED.match(name)}
    kept = {name: tensor for name, tensor in wanted.items() if name not in computed}
    check_fits(source, kept, given, "GroundingDINO of these settings")
    model.load_state_dict({**computed, **given})
