"""A `sam:tiny` that is smaller still, and its training of a second."""

from dataclasses import replace

from training.segmenter.config import TINY, SegmenterConfig

ENCODER = {"image_px": 64, "encoder_dim": 32, "encoder_depth": 2, "encoder_mlp_dim": 64, "global_blocks": (1,)}
SMALL = replace(TINY, **ENCODER, prompt_dim=32, decoder_mlp_dim=64, iou_hidden_dim=32)
QUICK = SegmenterConfig(pool=8, steps=4, batch_images=2, prompts=2, checkpoint_steps=2, warmup_steps=2, dice_from=1)
