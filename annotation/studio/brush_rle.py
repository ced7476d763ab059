"""Label Studio's own brush RLE (not COCO's), from and to masks (H, W) bool.

A brush mask is the image's RGBA bytes, row by row, all four equal: 255 inside and 0 outside. They are packed by bits: a
header (32 bits: how many values; 5: bits a value - 1; four times 4: bits of the four run sizes - 1), then runs (`1`,
2 bits: which size, the length - 1, the value) and stretches of single values (`0`, which size, the length - 1, every
value). What is encoded here is, number by number, what `label_studio_sdk.converter.brush.mask2rle` makes of the mask
times 255. Everything that is decoded is untrusted: its stated size must be the image's before anything is laid out.

Source: thi.ng/umbrella, rle-pack; label_studio_sdk/converter/brush.py.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.masks import MaskBool, mask_to_rle, rle_to_mask
from schemas.errors import BadInput
from schemas.geometry import CocoRle

CHANNELS = 4
VALUE_BITS = 8
RUN_BITS = (3, 4, 8, 16)
HEADER_BITS = 32 + 5 + 4 * 4
#: Up to which length (in values) a run takes the first, second or third size; the fourth holds the rest, in pieces.
_LIMITS = np.array([2**bits for bits in RUN_BITS[:3]])
_LONGEST = 2 ** RUN_BITS[3]
#: A brush draws with a soft edge: a pixel is inside from this alpha on.
INSIDE_ALPHA = 128
#: Larger images are refused before a mask is laid out.
MAX_PIXELS = 64_000_000
_REMEDY = "annotate the task anew"


def encode_brush(mask_hw: MaskBool) -> list[int]:
    """The brush RLE (numbers 0..255) of a mask (H, W, bool). Raises: BadInput for an empty or too large image."""
    _check_size("mask", *mask_hw.shape)
    flat = mask_hw.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    lengths, inside = _pieces(np.diff(ends, prepend=-1) * CHANNELS, flat[ends])
    size = np.searchsorted(_LIMITS, lengths)
    size[inside[1]] = len(RUN_BITS) - 1  # the rest of a run that was cut stays with the longest size
    bits = np.array(RUN_BITS)[size]
    head = (0b100 | size).astype(np.int64)
    codes = ((head << bits | lengths - 1) << VALUE_BITS) | np.where(inside[0], 255, 0)
    return _packed(flat.size * CHANNELS, codes, 3 + bits + VALUE_BITS)


def _pieces(
    lengths: NDArray[np.int64], inside: MaskBool
) -> tuple[NDArray[np.int64], tuple[MaskBool, NDArray[np.bool_]]]:
    """Runs longer than a code can say, cut: (lengths, (values, whether it comes of a cut run))."""
    pieces = -(-lengths // _LONGEST)
    if (pieces == 1).all():
        return lengths, (inside, np.zeros(len(lengths), dtype=np.bool_))
    cut = np.repeat(lengths, pieces)
    cut[:] = _LONGEST
    last = np.cumsum(pieces) - 1
    cut[last] = lengths - (pieces - 1) * _LONGEST
    return cut, (np.repeat(inside, pieces), np.repeat(pieces > 1, pieces))


def _packed(n_values: int, codes: NDArray[np.int64], widths: NDArray[np.int64]) -> list[int]:
    """Header and codes, each in its lowest `width` bits, as bytes; whole bytes get a 0 behind them, as the SDK's do."""
    header = n_values << 21 | (VALUE_BITS - 1) << 16 | sum((bits - 1) << 4 * (3 - i) for i, bits in enumerate(RUN_BITS))
    codes, widths = np.append(header, codes), np.append(HEADER_BITS, widths)
    begins = np.cumsum(widths) - widths
    row = np.repeat(np.arange(len(codes)), widths)
    shift = (widths - 1)[row] - (np.arange(len(row)) - begins[row])
    bits = (codes[row] >> shift & 1).astype(np.uint8)
    return [*np.packbits(bits).tolist(), *([0] if len(bits) % 8 == 0 else [])]


def decode_brush(rle: object, height_px: int, width_px: int, thing: str = "brush mask") -> MaskBool:
    """The mask (H, W, bool) of a brush RLE that must be of an image of that size; `thing` names it in errors.

    Raises: BadInput where it is no list of bytes, of another size, cut short, or says what its header does not allow.
    """
    _check_size(thing, height_px, width_px)
    data = _bytes(rle, height_px * width_px * CHANNELS, thing)
    stream = int.from_bytes(data[: HEADER_BITS // 8 + 1], "big") >> 3
    n_values, value_bits = stream >> 21, (stream >> 16 & 31) + 1
    if n_values != height_px * width_px * CHANNELS:
        fault = f"holds {n_values} values, and an image of {width_px} x {height_px} px has four a pixel"
        raise BadInput(thing, fault, _REMEDY)
    if value_bits != VALUE_BITS:
        raise BadInput(thing, f"has values of {value_bits} bits, not of {VALUE_BITS}", _REMEDY)
    run_bits = [(stream >> 4 * (3 - i) & 15) + 1 for i in range(4)]
    return _inside(data, n_values, run_bits, thing).reshape(height_px, width_px)


def _bytes(rle: object, n_values: int, thing: str) -> bytes:
    """The numbers as bytes. Every code says a value or more, so there is a longest sensible list."""
    if not isinstance(rle, list):
        raise BadInput(thing, "is no list of numbers", _REMEDY)
    if len(rle) > HEADER_BITS // 8 + 2 + n_values * (3 + RUN_BITS[3] + VALUE_BITS) // 8:
        raise BadInput(thing, f"has {len(rle)} numbers, more than its image can need", _REMEDY)
    try:
        data = bytes(rle)
    except (TypeError, ValueError):
        raise BadInput(thing, "has something that is no number of 0..255", _REMEDY) from None
    if len(data) < HEADER_BITS // 8 + 1:
        raise BadInput(thing, "ends inside its header", _REMEDY)
    return data


def _inside(data: bytes, n_values: int, run_bits: list[int], thing: str) -> MaskBool:
    """Whether each pixel (H * W,) is inside, by the fourth of its values.

    Raises: BadInput where the data end before the values do, or a run goes beyond them.
    """
    inside = np.zeros(n_values // CHANNELS, dtype=np.bool_)
    padded, n_bits = data + bytes(8), 8 * len(data)
    at, begin = HEADER_BITS, 0
    while begin < n_values:
        word = int.from_bytes(padded[at >> 3 : (at >> 3) + 5], "big") << (at & 7)  # 32 bits or more from `at` on
        bits = run_bits[word >> 37 & 3]
        end = begin + 1 + (word >> 37 - bits & (1 << bits) - 1)
        is_run = word >> 39 & 1
        at += 3 + bits
        past = at + VALUE_BITS * (1 if is_run else end - begin)
        if past > n_bits or end > n_values:
            raise BadInput(thing, "ends too early" if past > n_bits else "has a run beyond its end", _REMEDY)
        if not is_run:
            alphas = _single_values(data, at, past)[CHANNELS - 1 - begin % CHANNELS :: CHANNELS]
            inside[begin // CHANNELS : end // CHANNELS] = alphas >= INSIDE_ALPHA
        elif word >> 29 - bits & 255 >= INSIDE_ALPHA:
            inside[begin // CHANNELS : end // CHANNELS] = True
        at, begin = past, end
    return inside


def _single_values(data: bytes, at: int, past: int) -> NDArray[np.uint8]:
    """The values whose bits lie at [at, past)."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8, count=-(-past // 8) - (at >> 3), offset=at >> 3))
    return np.packbits(bits[at & 7 : (at & 7) + past - at])


def brush_from_coco(rle: CocoRle) -> list[int]:
    """The brush RLE of a mask in a record. Raises: BadInput for one that is none."""
    _check_size("mask", *rle.size)
    try:
        return encode_brush(rle_to_mask(rle))
    except ValueError as error:
        raise BadInput("mask", str(error), "find the regions anew") from None


def coco_from_brush(rle: object, height_px: int, width_px: int, thing: str = "brush mask") -> CocoRle:
    """The record of a brush mask. Raises: as `decode_brush`."""
    return mask_to_rle(decode_brush(rle, height_px, width_px, thing))


def _check_size(thing: str, height_px: int, width_px: int) -> None:
    if not (0 < height_px and 0 < width_px and height_px * width_px <= MAX_PIXELS):
        fault = f"is of {width_px} x {height_px} px, where 1 to {MAX_PIXELS:,} pixels are read"
        raise BadInput(thing, fault, "give a smaller image")
