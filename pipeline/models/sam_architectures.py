"""The architectures of segment-anything's Sam as one table: the three published ones, and `tiny`, trained here.

A checkpoint says what it is by its tensors' shapes (`sizes_of_tensors`). One thing they do not tell, the heads of the
mask decoder: it follows from the table, or from the metadata of a safetensors file (`sizes_to_metadata`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from schemas.errors import BadInput, MissingPackage

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

#: Where a safetensors file keeps its sizes, as JSON.
METADATA_KEY = "sam_sizes"
INSTALL = "pip install segment-anything torch torchvision"
MULTIMASK_OUTPUTS = 3
#: Mean and standard deviation of RGB in levels 0..255, the same for every architecture.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class SamSizes:
    """Everything that tells one Sam from another.

    Raises: ValueError for sizes that do not fit each other.
    """

    image_px: int
    """Side of the square the encoder sees; images are resized to it by their longest side."""
    patch_px: int
    """Side of a patch; the embedding has (image_px / patch_px)^2 cells, a mask 4 times as many a side."""
    encoder_dim: int
    encoder_depth: int
    encoder_heads: int
    encoder_mlp_dim: int
    window_cells: int
    """Side of an attention window in the blocks that are not global; the grid's side where all are global."""
    global_blocks: tuple[int, ...]
    """Blocks (from 0) that attend over the whole image."""
    prompt_dim: int
    """Dimension of prompts, of the image embedding (the neck) and of the mask decoder."""
    decoder_depth: int
    decoder_heads: int
    decoder_mlp_dim: int
    iou_hidden_dim: int
    """Hidden width of the head that predicts IoU."""
    iou_depth: int = 3
    mask_channels: int = 16
    """Channels of the encoder of mask prompts, which this project does not use."""

    def __post_init__(self) -> None:
        numbers = [getattr(self, field.name) for field in fields(self) if field.name != "global_blocks"]
        if not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("every size of a Sam is a positive whole number")
        _divides(self.patch_px, self.image_px, "patch_px", "image_px")
        _divides(self.encoder_heads, self.encoder_dim, "encoder_heads", "encoder_dim")
        _divides(self.encoder_dim, self.encoder_mlp_dim, "encoder_dim", "encoder_mlp_dim")
        _divides(2 * self.decoder_heads, self.prompt_dim, "2 x decoder_heads", "prompt_dim")
        _divides(8, self.prompt_dim, "8", "prompt_dim")
        if any(type(block) is not int or not 0 <= block < self.encoder_depth for block in self.global_blocks):
            raise ValueError(f"global_blocks are numbers from 0 to {self.encoder_depth - 1}")

    @property
    def grid_cells(self) -> int:
        """Side of the image embedding in cells."""
        return self.image_px // self.patch_px

    @property
    def mask_px(self) -> int:
        """Side of the decoder's mask before it is scaled to the image."""
        return 4 * self.grid_cells


def _divides(part: int, whole: int, part_name: str, whole_name: str) -> None:
    if whole % part:
        raise ValueError(f"{part_name} ({part}) does not divide {whole_name} ({whole})")


def _published(dim: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> SamSizes:
    return SamSizes(
        image_px=1024,
        patch_px=16,
        encoder_dim=dim,
        encoder_depth=depth,
        encoder_heads=heads,
        encoder_mlp_dim=4 * dim,
        window_cells=14,
        global_blocks=global_blocks,
        prompt_dim=256,
        decoder_depth=2,
        decoder_heads=8,
        decoder_mlp_dim=2048,
        iou_hidden_dim=256,
    )


#: Source: segment_anything/build_sam.py for the published three.
ARCHITECTURES: dict[str, SamSizes] = {
    "vit_h": _published(1280, 32, 16, (7, 15, 23, 31)),
    "vit_l": _published(1024, 24, 16, (5, 11, 17, 23)),
    "vit_b": _published(768, 12, 12, (2, 5, 8, 11)),
    # Patches of 8 px, so that an edge need not pass through the channels of a coarse patch; images of 192 px, so that
    # attention stays cheap on a CPU; masks then have 96 x 96 cells.
    "tiny": SamSizes(
        image_px=192,
        patch_px=8,
        encoder_dim=128,
        encoder_depth=6,
        encoder_heads=4,
        encoder_mlp_dim=512,
        window_cells=8,
        global_blocks=(2, 4),
        prompt_dim=96,
        decoder_depth=2,
        decoder_heads=4,
        decoder_mlp_dim=192,
        iou_hidden_dim=96,
    ),
}


def build_sam(architecture: str | SamSizes) -> "Sam":
    """A Sam of that architecture with random weights, on the CPU, in evaluation mode.

    Raises: BadInput for a name that is not known; MissingPackage.
    """
    sizes = named_sizes(architecture) if isinstance(architecture, str) else architecture
    try:
        from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    except ImportError as error:
        raise MissingPackage("sam", f"needs a package that is not installed ({error.name})", INSTALL) from None
    from functools import partial

    from torch.nn import LayerNorm

    image_encoder = ImageEncoderViT(
        img_size=sizes.image_px,
        patch_size=sizes.patch_px,
        embed_dim=sizes.encoder_dim,
        depth=sizes.encoder_depth,
        num_heads=sizes.encoder_heads,
        mlp_ratio=sizes.encoder_mlp_dim / sizes.encoder_dim,
        out_chans=sizes.prompt_dim,
        norm_layer=partial(LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=sizes.window_cells,
        global_attn_indexes=sizes.global_blocks,
    )
    prompt_encoder = PromptEncoder(
        embed_dim=sizes.prompt_dim,
        image_embedding_size=(sizes.grid_cells, sizes.grid_cells),
        input_image_size=(sizes.image_px, sizes.image_px),
        mask_in_chans=sizes.mask_channels,
    )
    transformer = TwoWayTransformer(
        depth=sizes.decoder_depth,
        embedding_dim=sizes.prompt_dim,
        mlp_dim=sizes.decoder_mlp_dim,
        num_heads=sizes.decoder_heads,
    )
    mask_decoder = MaskDecoder(
        num_multimask_outputs=MULTIMASK_OUTPUTS,
        transformer=transformer,
        transformer_dim=sizes.prompt_dim,
        iou_head_depth=sizes.iou_depth,
        iou_head_hidden_dim=sizes.iou_hidden_dim,
    )
    return Sam(image_encoder, prompt_encoder, mask_decoder, list(PIXEL_MEAN), list(PIXEL_STD)).eval()


def named_sizes(architecture: str) -> SamSizes:
    """The sizes of a named architecture. Raises: BadInput for a name that is not known."""
    if architecture not in ARCHITECTURES:
        raise BadInput(f"architecture {architecture!r}", "is no known Sam", f"choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture]


def name_of(sizes: SamSizes) -> str | None:
    """The name of an architecture with these sizes; None where it has none."""
    return next((name for name, known in ARCHITECTURES.items() if known == sizes), None)


def sizes_to_metadata(sizes: SamSizes) -> dict[str, str]:
    """What a safetensors file of such a Sam carries in its metadata."""
    return {METADATA_KEY: json.dumps(asdict(sizes), sort_keys=True)}


def sizes_from_metadata(metadata: Mapping[str, str]) -> SamSizes | None:
    """The sizes in a safetensors file's metadata; None where it has none. Raises: ValueError for a broken entry."""
    if METADATA_KEY not in metadata:
        return None
    stored: Any = json.loads(metadata[METADATA_KEY])
    if not isinstance(stored, dict) or stored.keys() != {field.name for field in fields(SamSizes)}:
        raise ValueError(f"metadata {METADATA_KEY!r} does not hold the sizes of a Sam")
    if not isinstance(stored["global_blocks"], list):
        raise ValueError(f"metadata {METADATA_KEY!r} holds no list of global_blocks")
    return SamSizes(**stored | {"global_blocks": tuple(stored["global_blocks"])})


def sizes_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> SamSizes:
    """The sizes of the Sam whose state dict has tensors of these shapes; decoder_heads, which they do not tell, is 1.

    Raises: KeyError, IndexError, ValueError or ZeroDivisionError where they are not those of a Sam.
    """
    dim, _, patch_px, _ = shapes["image_encoder.patch_embed.proj.weight"]
    grid = shapes["image_encoder.pos_embed"][1]
    depth = _count(shapes, "image_encoder.blocks.")
    attended = [(shapes[f"image_encoder.blocks.{block}.attn.rel_pos_h"][0] + 1) // 2 for block in range(depth)]
    return SamSizes(
        image_px=grid * patch_px,
        patch_px=patch_px,
        encoder_dim=dim,
        encoder_depth=depth,
        encoder_heads=dim // shapes["image_encoder.blocks.0.attn.rel_pos_h"][1],
        encoder_mlp_dim=shapes["image_encoder.blocks.0.mlp.lin1.weight"][0],
        window_cells=min(attended),
        global_blocks=tuple(block for block, cells in enumerate(attended) if cells == grid),
        prompt_dim=shapes["image_encoder.neck.0.weight"][0],
        decoder_depth=_count(shapes, "mask_decoder.transformer.layers."),
        decoder_heads=1,
        decoder_mlp_dim=shapes["mask_decoder.transformer.layers.0.mlp.lin1.weight"][0],
        iou_hidden_dim=shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
        iou_depth=_count(shapes, "mask_decoder.iou_prediction_head.layers."),
        mask_channels=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
    )


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered modules there are below `prefix`."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})
