"""GroundingDINO's weights under transformers' names: the same tensors, the joined projections cut into their parts.

The settings of the two published architectures are read from the package groundingdino-py; the sizes of its backbones,
which its settings name only, stand here. Source of the correspondence: the modules of groundingdino-py 0.4.0 and of
transformers 5.23 side by side; `tests/unit/pipeline/models/test_groundingdino.py` holds the two against each other.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Backbone by name: dimension, blocks of each stage, heads of each stage, window, image size it was trained at.
SWIN = {
    "swin_T_224_1k": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 224),
    "swin_B_224_22k": (128, (2, 2, 18, 2), (4, 8, 16, 32), 7, 224),
    "swin_B_384_22k": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 384),
    "swin_L_224_22k": (192, (2, 2, 18, 2), (6, 12, 24, 48), 7, 224),
    "swin_L_384_22k": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 384),
}

_SWIN = "model.backbone.conv_encoder.model."
_BLOCK = r"backbone\.0\.layers\.(\d+)\.blocks\.(\d+)\."
_NEW_BLOCK = _SWIN + r"swin.encoder.layers.\1.blocks.\2."
_NEW_BIAS = _NEW_BLOCK + "attention.relative_position_bias.relative_position_bias_table"
_ENCODER = r"transformer\.encoder\.layers\.(\d+)\."
_TEXT = r"transformer\.encoder\.text_layers\.(\d+)\."
_FUSION = r"transformer\.encoder\.fusion_layers\.(\d+)\."
_DECODER = r"transformer\.decoder\.layers\.(\d+)\."
_NEW_ENCODER, _NEW_DECODER = r"model.encoder.layers.\1.", r"model.decoder.layers.\1."

#: Pattern of a name's beginning and what stands in its place; the first that fits counts.
RENAMES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"backbone\.0\.patch_embed\.proj\.", _SWIN + "swin.embeddings.patch_embeddings.projection."),
        (r"backbone\.0\.patch_embed\.norm\.", _SWIN + "swin.embeddings.norm."),
        (_BLOCK + r"norm1\.", _NEW_BLOCK + "layernorm_before."),
        (_BLOCK + r"norm2\.", _NEW_BLOCK + "layernorm_after."),
        (_BLOCK + r"mlp\.", _NEW_BLOCK + "mlp."),
        (_BLOCK + r"attn\.proj\.", _NEW_BLOCK + "attention.o_proj."),
        (_BLOCK + r"attn\.qkv\.", _NEW_BLOCK + "attention.{q_proj,k_proj,v_proj}."),
        (_BLOCK + r"attn\.relative_position_bias_table", _NEW_BIAS),
        (r"backbone\.0\.layers\.(\d+)\.downsample\.", _SWIN + r"swin.encoder.layers.\1.downsample."),
        *((rf"backbone\.0\.norm{n}\.", _SWIN + f"hidden_states_norms.stage{n + 1}.") for n in range(4)),
        (r"input_proj\.", "model.input_proj_vision."),
        (r"bert\.", "model.text_backbone."),
        (r"feat_map\.", "model.text_projection."),
        (r"transformer\.level_embed", "model.level_embed"),
        (_ENCODER + r"self_attn\.", _NEW_ENCODER + "deformable_layer.self_attn."),
        (_ENCODER + r"norm1\.", _NEW_ENCODER + "deformable_layer.self_attn_layer_norm."),
        (_ENCODER + r"norm2\.", _NEW_ENCODER + "deformable_layer.final_layer_norm."),
        (_ENCODER + r"linear", _NEW_ENCODER + "deformable_layer.fc"),
        (_TEXT + r"self_attn\.in_proj_", _NEW_ENCODER + "text_enhancer_layer.self_attn.{query,key,value}."),
        (_TEXT + r"self_attn\.out_proj\.", _NEW_ENCODER + "text_enhancer_layer.self_attn.out_proj."),
        (_TEXT + r"norm1\.", _NEW_ENCODER + "text_enhancer_layer.layer_norm_before."),
        (_TEXT + r"norm2\.", _NEW_ENCODER + "text_enhancer_layer.layer_norm_after."),
        (_TEXT + r"linear", _NEW_ENCODER + "text_enhancer_layer.fc"),
        (_FUSION + r"gamma_v", _NEW_ENCODER + "fusion_layer.vision_param"),
        (_FUSION + r"gamma_l", _NEW_ENCODER + "fusion_layer.text_param"),
        (_FUSION + r"layer_norm_v\.", _NEW_ENCODER + "fusion_layer.layer_norm_vision."),
        (_FUSION + r"layer_norm_l\.", _NEW_ENCODER + "fusion_layer.layer_norm_text."),
        (_FUSION + r"attn\.(values_|out_)?v_proj\.", _NEW_ENCODER + r"fusion_layer.attn.\2vision_proj."),
        (_FUSION + r"attn\.(values_|out_)?l_proj\.", _NEW_ENCODER + r"fusion_layer.attn.\2text_proj."),
        (_DECODER + r"(self_attn)\.in_proj_", _NEW_DECODER + r"\2.{query,key,value}."),
        (_DECODER + r"ca_text\.in_proj_", _NEW_DECODER + "encoder_attn_text.{query,key,value}."),
        (_DECODER + r"ca_text\.", _NEW_DECODER + "encoder_attn_text."),
        (_DECODER + r"catext_norm\.", _NEW_DECODER + "encoder_attn_text_layer_norm."),
        (_DECODER + r"cross_attn\.", _NEW_DECODER + "encoder_attn."),
        (_DECODER + r"self_attn\.", _NEW_DECODER + "self_attn."),
        (_DECODER + r"norm1\.", _NEW_DECODER + "encoder_attn_layer_norm."),
        (_DECODER + r"norm2\.", _NEW_DECODER + "self_attn_layer_norm."),
        (_DECODER + r"norm3\.", _NEW_DECODER + "final_layer_norm."),
        (_DECODER + r"linear", _NEW_DECODER + "fc"),
        (r"transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
        (r"transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
        (r"transformer\.decoder\.bbox_embed\.", "model.decoder.bbox_embed."),
        (r"transformer\.tgt_embed\.", "model.query_position_embeddings."),
        (r"transformer\.enc_output", "model.enc_output"),
        (r"transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"bbox_embed\.", "bbox_embed."),
    )
)

#: Weights that neither implementation's answers depend on: made from others, or for training alone.
UNUSED = re.compile(
    r"bert\.pooler\.|bert\.embeddings\.position_ids$|label_enc\.|.*\.relative_position_index$|.*\.attn_mask$"
)


def to_transformers(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The weights of groundingdino-py's GroundingDINO under the names of transformers' GroundingDinoForObjectDetection.

    Raises: ValueError, naming it, for a weight that GroundingDINO has not.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not UNUSED.match(name):
            renamed |= _renamed(name, tensor)
    return renamed


def _renamed(name: str, tensor: "Tensor") -> dict[str, "Tensor"]:
    for pattern, new in RENAMES:
        found = pattern.match(name)
        if found:
            whole = found.expand(new) + name[found.end() :]
            joined = re.search(r"\{(\w+),(\w+),(\w+)\}", whole)
            if joined is None:
                return {whole: tensor}
            parts = zip(joined.groups(), tensor.chunk(3), strict=True)
            return {whole[: joined.start()] + part + whole[joined.end() :]: cut.contiguous() for part, cut in parts}
    raise ValueError(f"GroundingDINO has no weight {name!r}")


def transformers_config(settings: Mapping[str, Any], text_config: Mapping[str, Any]) -> dict[str, Any]:
    """The `config.json` of transformers' GroundingDino for the settings of a groundingdino-py model and its BERT."""
    dimension, depths, heads, window, image_px = SWIN[settings["backbone"]]
    stages = [index + 1 for index in settings["return_interm_indices"]]
    backbone = {
        "model_type": "swin",
        "embed_dim": dimension,
        "depths": list(depths),
        "num_heads": list(heads),
        "window_size": window,
        "image_size": image_px,
        "out_indices": stages,
        "out_features": [f"stage{stage}" for stage in stages],
    }
    return {
        "model_type": "grounding-dino",
        "architectures": ["GroundingDinoForObjectDetection"],
        "backbone_config": backbone,
        "text_config": dict(text_config),
        "num_queries": settings["num_queries"],
        "encoder_layers": settings["enc_layers"],
        "decoder_layers": settings["dec_layers"],
        "encoder_ffn_dim": settings["dim_feedforward"],
        "decoder_ffn_dim": settings["dim_feedforward"],
        "encoder_attention_heads": settings["nheads"],
        "decoder_attention_heads": settings["nheads"],
        "encoder_n_points": settings["enc_n_points"],
        "decoder_n_points": settings["dec_n_points"],
        "d_model": settings["hidden_dim"],
        "dropout": settings["dropout"],
        "activation_function": settings["transformer_activation"],
        "num_feature_levels": settings["num_feature_levels"],
        "two_stage": settings["two_stage_type"] == "standard",
        "two_stage_bbox_embed_share": settings["two_stage_bbox_embed_share"],
        "decoder_bbox_embed_share": settings["dec_pred_bbox_embed_share"],
        "embedding_init_target": settings["embed_init_tgt"],
        "max_text_len": settings["max_text_len"],
        "text_enhancer_dropout": settings["text_dropout"],
        "fusion_dropout": settings["fusion_dropout"],
        "fusion_droppath": settings["fusion_droppath"],
        "positional_embedding_temperature": settings["pe_temperatureH"],
    }
