"""The network of the `region` reward: source, edited, instruction and region masks in, all scores and variances out.

Both images go through one encoder and are compared by attention across them; a second, early-fused encoder sees both at
once, with their difference. Both are pooled on the masks: inside, rims and neighbourhood. Each region finds its name in
the instruction by what the source shows there, and reads the words around it; they say what it should have become, and
how far what is seen lies from that is given to the heads. What was asked and what was done are read apart, the one from
words, the other from pixels alone, and whether they agree is given to the heads, too. Pooling is strict: no cell from
outside a place is pooled into it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.reward.backbone import FrozenBackbone
from training.reward.features import DETAILS, GEOMETRY, MAPS, PLACES
from training.reward.network_io import ASKED, EXPECTED, SHOWN, NetworkInputs, NetworkOutputs
from training.reward.network_layers import (
    CrossAttention,
    InstructionEncoder,
    SharedEncoder,
    as_cells,
    conv_block,
    mlp,
    pooled,
    spread,
    upsampled_twice,
)
from training.reward.network_measures import BEFORE, after_edit, as_ratio, before_edit, levelled

ARCHITECTURE = "region-net/2"
_SPOT = 16
#: What the maps are mixed from: what is there, how it changed, what of it the source has elsewhere, and the fusion.
_MIXED = ("edited", "change", "found", "fused")
_CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True)
class NetworkConfig:
    """The sizes of the network. use_source, use_instruction: False sets that input to zero, in training and use."""

    channels: int = 40
    text: int = 64
    hidden: int = 160
    heads: int = 4
    use_source: bool = True
    use_instruction: bool = True
    backbone: str | None = None


class RegionNet(nn.Module):
    """The whole network; see the module's docstring."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels, text, hidden = config.channels, config.text, config.hidden
        self.encoder = SharedEncoder(channels)
        self.across = CrossAttention(channels)
        self.compare = nn.Sequential(conv_block(24 + MAPS, channels, stride=2), conv_block(channels, channels))
        self.mix = nn.ModuleDict({name: nn.Linear(channels, 2 * channels) for name in _MIXED})
        self.backbone = FrozenBackbone(Path(config.backbone)) if config.backbone else None
        self.adapt = nn.Conv2d(2 * self.backbone.channels, 2 * channels, 1) if self.backbone else None
        self.instruction = InstructionEncoder(text)
        self.look = nn.Sequential(nn.Linear(6 + 2 * channels + GEOMETRY, hidden), nn.GELU())
        self.shown = nn.ModuleDict({name: nn.Linear(hidden, count) for name, count in SHOWN.items()})
        self.query = nn.Linear(hidden + sum(SHOWN.values()), 3 * text)
        self.again = nn.Linear(3 * text, 3 * text)
        self.beside = mlp(3, 16, config.heads)
        self.context = nn.Linear(6 * text, 2 * text)
        self.asked = nn.ModuleDict({name: nn.Linear(2 * text, count) for name, count in ASKED.items()})
        known = sum(ASKED.values())
        self.expect = mlp(known + BEFORE + GEOMETRY, hidden, EXPECTED)
        seen = 2 * PLACES * DETAILS + (PLACES + 1) * 2 * channels + GEOMETRY
        self.norm = nn.LayerNorm(seen)
        self.look_after = nn.Sequential(nn.Linear(seen, hidden), nn.GELU())
        self.done = nn.ModuleDict({name: nn.Linear(hidden, count) for name, count in ASKED.items()})
        self.surprise_norm = nn.LayerNorm(2 * EXPECTED)
        self.seen = nn.Linear(seen + 2 * EXPECTED, hidden)
        self.film = nn.Linear(known, 2 * hidden)
        self.spot = nn.Linear(hidden + known, config.heads * _SPOT)
        self.spot_key = nn.Linear(2 * channels, _SPOT)
        agreed = sum(ASKED.values()) + 2 * len(ASKED)
        self.judge = nn.Sequential(
            mlp(hidden + config.heads * 2 * channels + known + agreed, hidden, hidden), nn.GELU()
        )
        self.region_head = nn.Linear(hidden, 2 * len(REGION_SCORES))
        self.image_head = mlp(3 * hidden, hidden, 2 * len(IMAGE_SCORES))

    def forward(self, inputs: NetworkInputs) -> NetworkOutputs:
        """One pass; see `NetworkOutputs`."""
        words = inputs.words if self.config.use_instruction else torch.zeros_like(inputs.words[:, :1])
        inputs = inputs._replace(means=levelled(inputs.means), spreads=as_ratio(inputs.spreads))
        near_source, maps = self._maps(inputs)
        before, observed = before_edit(inputs), after_edit(inputs)
        known, asked, shown, pointing = self._understood(words, near_source, inputs, before[..., :6])
        expected = self.expect(torch.cat([known, before, inputs.geometry], dim=-1))
        hidden, done = self._judged(maps, inputs, known, asked, observed - expected)
        regions = self.region_head(hidden[:, :-1]).unflatten(-1, (2, -1))
        image = self.image_head(_over_image(hidden, inputs.places[:, :-1, 0].sum(dim=(2, 3)) > 0)).unflatten(
            -1, (2, -1)
        )
        return NetworkOutputs(
            region_logit=regions[..., 0, :],
            region_log_variance=_bounded(regions[..., 1, :]),
            image_logit=image[:, 0],
            image_log_variance=_bounded(image[:, 1]),
            asked={name: logits[:, :-1] for name, logits in asked.items()},
            done={name: logits[:, :-1] for name, logits in done.items()},
            shown={name: logits[:, :-1] for name, logits in shown.items()},
            pointing=pointing[:, :-1],
            expected=expected[:, :-1],
            observed=observed[:, :-1],
        )

    def _maps(self, inputs: NetworkInputs) -> tuple[Tensor, Tensor]:
        """Cells (B, S/4 * S/4, .) of the source's near features, and of what is seen and how it differs (2C)."""
        both = functional.pixel_unshuffle(torch.cat([inputs.source, inputs.edited]), 2)
        both = both.contiguous(memory_format=_CHANNELS_LAST)
        source, edited = both.chunk(2)
        near, deep = self.encoder(both)
        (near_source, near_edited), (deep_source, deep_edited) = near.chunk(2), deep.chunk(2)
        fused = torch.cat([edited, 3 * (edited - source), inputs.maps], dim=1).contiguous(memory_format=_CHANNELS_LAST)
        parts = {
            "edited": near_edited,
            "change": near_edited - near_source,
            "found": self.across(deep_edited, deep_source),
            "fused": self.compare(fused),
        }
        mixed = {name: self.mix[name](as_cells(maps)) for name, maps in parts.items()}
        mixed["found"] = upsampled_twice(mixed["found"], deep_edited.shape[2:])
        total = mixed["edited"] + mixed["change"] + mixed["found"] + mixed["fused"]
        if self.backbone is not None and self.adapt is not None:
            seen, before = (self.backbone.features(image + 0.5) for image in (inputs.edited, inputs.source))
            coarse = self.adapt(torch.cat([seen, seen - before], dim=1))
            size = near_edited.shape[2:]
            total = total + as_cells(functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False))
        return as_cells(near_source), functional.relu(total)

    def _understood(
        self, words: Tensor, near_source: Tensor, inputs: NetworkInputs, colours: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], Tensor]:
        """What is asked of each row (B, R + 1, known), that in classes, what the source shows, and where it looks."""
        inside = inputs.places[:, :, 0]
        mean = pooled(near_source, inside)
        look = torch.cat([mean, spread(near_source, inside, mean), colours, inputs.geometry], dim=-1)
        look = self.look(look)
        shown = {name: layer(look) for name, layer in self.shown.items()}
        query = self.query(torch.cat([look, *(logits.softmax(dim=-1) for logits in shown.values())], dim=-1))
        tokens = self.instruction(words)
        found, attention = self._attended(query, tokens, words, None)
        pointing = attention[:, 0]
        read, _ = self._attended(self.again(found), tokens, words, self.beside(_offsets(pointing)).permute(0, 3, 1, 2))
        context = self.context(torch.cat([found, read], dim=-1))
        asked = {name: layer(context) for name, layer in self.asked.items()}
        # What was read goes on as classes alone: by its words a request would be known again, and learnt by heart.
        known = torch.cat([logits.softmax(dim=-1) for logits in asked.values()], dim=-1)
        return known, asked, shown, pointing

    def _attended(self, query: Tensor, tokens: Tensor, words: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """What each row (B, R + 1, .) finds among the tokens (B, T, .), and its attention (B, heads, R + 1, T)."""
        heads = self.config.heads
        asker, key = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, tokens))  # (B, heads, ., d)
        there = (words > 0).any(dim=-1)
        there = there | ~there.any(dim=1, keepdim=True)
        logits = asker @ key.transpose(2, 3) / key.shape[-1] ** 0.5
        logits = logits if bias is None else logits + bias
        attention = logits.masked_fill(~there[:, None, None, :], -1e4).softmax(dim=-1)
        return (attention @ key).transpose(1, 2).flatten(2), attention

    def _judged(
        self, maps: Tensor, inputs: NetworkInputs, known: Tensor, asked: dict[str, Tensor], surprise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All that is seen in a row's places, in the light of what is asked there (B, R + 1, hidden), and `done`."""
        inside = inputs.places[:, :, 0]
        in_places = pooled(maps, inputs.places.flatten(1, 2))
        parts = [
            inputs.means.flatten(2),
            inputs.spreads.flatten(2),
            in_places.reshape(*inside.shape[:2], -1),
            spread(maps, inside, in_places[:, ::PLACES]),
            inputs.geometry,
        ]
        measures = self.norm(torch.cat(parts, dim=-1))
        after = self.look_after(measures)
        done = {name: layer(after) for name, layer in self.done.items()}
        surprises = self.surprise_norm(torch.cat([surprise, surprise.abs()], dim=-1))
        seen = self.seen(torch.cat([measures, surprises], dim=-1))
        scale, shift = self.film(known).chunk(2, dim=-1)
        seen = functional.gelu(seen * (1 + scale) + shift)
        spots = self._spots(maps, inside, torch.cat([seen, known], dim=-1))
        judged: Tensor = self.judge(torch.cat([seen, spots, known, _agreement(asked, done)], dim=-1))
        return judged, done

    def _spots(self, maps: Tensor, inside: Tensor, asker: Tensor) -> Tensor:
        """(B, R + 1, heads * 2C): the maps in those cells inside that a row looks at most."""
        query = self.spot(asker).unflatten(-1, (self.config.heads, _SPOT)).flatten(1, 2)
        logits = torch.bmm(query, self.spot_key(maps).transpose(1, 2)) / 4
        weights = torch.log(inside.flatten(2).clamp(min=1e-9)).repeat_interleave(self.config.heads, dim=1)
        found = torch.bmm((logits + weights).softmax(dim=-1), maps)
        return found.reshape(*inside.shape[:2], -1)


def _offsets(pointing: Tensor) -> Tensor:
    """(B, R + 1, T, 3): how far each word stands after, and before, the place where a row's name is, and how near."""
    places = torch.arange(pointing.shape[-1], dtype=pointing.dtype)
    offset = (places - (pointing * places).sum(dim=-1, keepdim=True)) / 4
    return torch.stack([offset.clamp(0, 3), (-offset).clamp(0, 3), torch.exp(-offset.abs())], dim=-1)


def _agreement(asked: dict[str, Tensor], done: dict[str, Tensor]) -> Tensor:
    """What was done in classes, and for each of `ASKED` how likely it is what was asked, plainly and as a logarithm.

    Class 0, not said, agrees with everything.
    """
    seen = {name: logits.softmax(dim=-1) for name, logits in done.items()}
    shares = []
    for name, logits in asked.items():
        wanted = logits.softmax(dim=-1)
        shares.append(wanted[..., 0] + (wanted[..., 1:] * seen[name][..., 1:]).sum(dim=-1))
    agree = torch.stack(shares, dim=-1)
    return torch.cat([*seen.values(), agree, torch.log(agree + 1e-3)], dim=-1)


def _over_image(hidden: Tensor, present: Tensor) -> Tensor:
    """(B, 3 * hidden): mean and maximum over the regions that are there, and the background."""
    regions, there = hidden[:, :-1], present[..., None].float()
    if regions.shape[1] == 0:
        return hidden[:, -1].repeat(1, 3)
    mean = (regions * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    highest = (regions * there - (1 - there)).amax(dim=1)
    return torch.cat([mean, highest, hidden[:, -1]], dim=-1)


def _bounded(log_variance: Tensor) -> Tensor:
    """The log-variance of a share, held between a hundredth of a point and the whole scale."""
    return 6 * torch.tanh(log_variance / 6) - 4
