"""What the region network reads and what it gives, with the shapes of both."""

from typing import NamedTuple

from torch import Tensor

#: What the instruction asks of a region, as far as requests say it: name -> classes; class 0: not said.
ASKED = {"operation": 12, "color": 13, "shape": 9, "texture": 7}


#: What the source shows of a region, in the words of its label: name -> classes; class 0 never used.
SHOWN = {"color": 13, "shape": 9}
#: The measures that source and instruction let one expect inside a region: colour, its spread, detail and difference.
EXPECTED = 3 + 3 + 3 + 3 + 6 + 3


class NetworkInputs(NamedTuple):
    """A batch of features. Rows: R regions (absent ones empty), then the background."""

    source: Tensor
    """(B, 3, S, S) in [-0.5, 0.5]"""
    edited: Tensor
    """(B, 3, S, S)"""
    maps: Tensor
    """(B, MAPS, S/2, S/2)"""
    places: Tensor
    """(B, R + 1, PLACES, S/4, S/4) in [0, 1]"""
    means: Tensor
    """(B, R + 1, PLACES, DETAILS)"""
    spreads: Tensor
    """(B, R + 1, PLACES, DETAILS)"""
    geometry: Tensor
    """(B, R + 1, GEOMETRY)"""
    words: Tensor
    """(B, T, PARTS) int64, from `text.encode`"""


class NetworkOutputs(NamedTuple):
    """Logits are of the share of the full score; log-variances are of that share, too."""

    region_logit: Tensor
    """(B, R, 2) in the order of `REGION_SCORES`"""
    region_log_variance: Tensor
    """(B, R, 2)"""
    image_logit: Tensor
    """(B, 5) in the order of `IMAGE_SCORES`"""
    image_log_variance: Tensor
    """(B, 5)"""
    asked: dict[str, Tensor]
    """for each of `ASKED` (B, R, classes): what the network takes the instruction to want there"""
    done: dict[str, Tensor]
    """for each of `ASKED` (B, R, classes): what it takes the images to show was done there, words unread"""
    shown: dict[str, Tensor]
    """for each of `SHOWN` (B, R, classes): what it takes the source to show there"""
    pointing: Tensor
    """(B, R, T): where in the instruction it finds the region's name, summing to 1 over the words"""
    expected: Tensor
    """(B, R, EXPECTED): what it expects to see there"""
    observed: Tensor
    """(B, R, EXPECTED): what is there"""
