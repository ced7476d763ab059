"""The settings of a judge behind an API."""

from typing import Annotated

from pydantic import Field

from pipeline.models.chat_settings import ChatSettings

Price = Annotated[float, Field(ge=0, le=1e6)] | None


class JudgeSettings(ChatSettings):
    """All settings of a judge; the defaults suit a VLM served on one machine."""

    blind: bool = False
    """the baseline: the same prompt without the images"""
    give_up_after: Annotated[int, Field(ge=1)] = 8
    """calls without an answer in a row after which the rest is not sent"""
    max_regions: Annotated[int, Field(ge=1, le=1000)] = 64
    """most regions in one query; above it the regions' scores are missing"""
    longest_side_px: Annotated[int, Field(ge=64, le=4096)] = 1024
    """larger images are sent scaled down to this"""
    upscale_to_px: Annotated[int, Field(ge=16, le=4096)] = 768
    """images whose longest side is below this are sent scaled up to it, so that the model has enough tokens to see"""
    price_per_million_prompt_tokens: Price = None
    """for the cost, in whatever currency; null: no cost is reckoned"""
    price_per_million_completion_tokens: Price = None
    """the same for what the model writes"""
