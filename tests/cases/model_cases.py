"""Tiny models of the real classes with random weights, written as users have them on disk. Nothing here is trained."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models import groundingdino, groundingdino_keys
from pipeline.models.convert import convert
from runtime.images import ImageU8

BERT = {
    "model_type": "bert",
    "vocab_size": 1100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
WORDS = ("cat", "dog", "red", "cup", "##s", "blue", "a")
#: Floats that BERT's vocabulary gives its special tokens, which transformers' GroundingDino takes for granted.
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


def picture(width_px: int, height_px: int, seed: int = 0) -> ImageU8:
    """Noise."""
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def write_bert(folder: Path, special: dict[int, str] = SPECIAL) -> Path:
    """BERT's settings and a vocabulary of a few words."""
    words = {**{number: f"[unused{number}]" for number in range(BERT["vocab_size"])}, **special}  # type: ignore[call-overload]
    words |= {1040 + index: word for index, word in enumerate(WORDS)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words[number] for number in sorted(words)))
    (folder / "config.json").write_text(json.dumps(BERT))
    return folder


@contextmanager
def narrow_swin() -> Iterator[None]:
    """A Swin-T of a quarter of its width, in the package and in what is converted of it: 8 MB of weights, not 110."""
    groundingdino.import_package()
    from groundingdino.models.GroundingDINO.backbone import backbone

    width, *others = groundingdino_keys.SWIN["swin_T_224_1k"]
    with pytest.MonkeyPatch.context() as patch:
        narrow = partial(backbone.build_swin_transformer, embed_dim=width // 4)
        patch.setattr(backbone, "build_swin_transformer", narrow)
        patch.setitem(groundingdino_keys.SWIN, "swin_T_224_1k", (width // 4, *others))
        yield


def write_groundingdino(folder: Path) -> Path:
    """A `.pth` of groundingdino-py's own class (Swin-T, 2 + 2 layers) as published, its settings and BERT beside it."""
    bert = write_bert(folder / groundingdino.BERT_FOLDER)
    settings = groundingdino.published_settings("GroundingDINO_SwinT_OGC.py")
    settings |= {"enc_layers": 2, "dec_layers": 2, "dim_feedforward": 64, "num_queries": 20}
    tokenizer, text_config = groundingdino.load_bert(bert)
    torch.manual_seed(0)
    model = groundingdino.build(settings, text_config, tokenizer)
    for weight in model.parameters():  # what is made as zeros or ones must tell its place, too
        if weight.dim() == 1 or not weight.any():
            weight.data.add_(torch.randn_like(weight) * 0.05)
    place = folder / "tiny.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}, place)
    place.with_suffix(".py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return place


def write_grounding_dino(place: Path, folder: Path) -> Path:
    """The same weights as a folder of transformers."""
    convert(place, folder, "transformers")
    return folder


def write_sam2(folder: Path) -> Path:
    """A SAM 2 of transformers' own class, 64 px."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 16,
    }
    config = Sam2Config(vision_config=vision, **_sam_heads(16, 64, 16))
    return _save(Sam2Model(config), Sam2ImageProcessor(size={"height": 64, "width": 64}), folder)


def write_sam3_tracker(folder: Path) -> Path:
    """The prompted half of a SAM 3, 56 px."""
    from transformers import Sam3ImageProcessor, Sam3TrackerConfig, Sam3TrackerModel

    config = Sam3TrackerConfig(
        vision_config={"model_type": "sam3_vision_model", **_sam3_vision()}, **_sam_heads(32, 56, 14)
    )
    return _save(Sam3TrackerModel(config), Sam3ImageProcessor(size={"height": 56, "width": 56}), folder)


def write_sam3(folder: Path) -> Path:
    """The searching half of a SAM 3, 56 px, with a tokenizer of single characters."""
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model

    part = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 190,
        "hidden_size": 16,
        "intermediate_size": 16,
        "projection_dim": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": 188,
        "eos_token_id": 189,
        "pad_token_id": 189,
    }
    config = Sam3Config(
        vision_config=_sam3_vision(),
        text_config=text,
        geometry_encoder_config={**part, "roi_size": 2},
        detr_encoder_config=part,
        detr_decoder_config={**part, "num_queries": 10},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    _save(Sam3Model(config), Sam3ImageProcessor(size={"height": 56, "width": 56}), folder)
    characters = [chr(number) for number in range(33, 127)]
    tokens = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def _sam3_vision() -> dict[str, Any]:
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }
    sizes = [[16, 16], [8, 8], [4, 4]]
    return {"backbone_config": backbone, "fpn_hidden_size": 32, "backbone_feature_sizes": sizes}


def _sam_heads(dimension: int, image_px: int, patch_px: int) -> dict[str, Any]:
    prompt = {"hidden_size": dimension, "image_size": image_px, "patch_size": patch_px, "mask_input_channels": 4}
    decoder = {"hidden_size": dimension, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return {"prompt_encoder_config": prompt, "mask_decoder_config": decoder}


def _save(model: Any, processor: Any, folder: Path) -> Path:
    """Written with weights ten times as wide as usual, so that answers differ from prompt to prompt."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
