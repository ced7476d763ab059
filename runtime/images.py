"""Images in memory and as bytes: safe decoding of what comes from outside, encoding, pixel hashes.

Everything decoded here is untrusted: its size is looked at before its pixels are, and nothing of its metadata survives.
"""

import warnings
from base64 import b64encode
from collections.abc import Iterator
from colorsys import hsv_to_rgb
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from runtime.masks import MaskBool
from schemas.geometry import Box
from schemas.sample import ImageFormat

ImageU8 = NDArray[np.uint8]
LabelsU16 = NDArray[np.uint16]

#: How the names of image files end.
EXTENSIONS: dict[ImageFormat, str] = {"png": "png", "jpeg": "jpg"}

#: Formats that are read from outside; everything else Pillow knows stays closed.
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_SIDE_PX = 16_384
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PROFILE_BYTES = 4 * 1024 * 1024
#: The modes whose colour profiles are followed, and what they are converted to.
_PROFILED = {"RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "L": "RGB"}
#: Of all the images of one request together: sixteen of 16 megapixels, or four of the largest that are read.
MAX_REQUEST_PIXELS = 256_000_000

#: Memory that decoding takes for a pixel: Pillow's RGB of four bytes, its copy as bytes, and the array.
DECODING_BYTES = 10


class BadImage(ValueError):
    """An image that cannot be used; `reason` is the code of the reject (`unreadable`, `too_large`, ...)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def decode_image(data: bytes) -> ImageU8:
    """The image in `data` as it is meant to be seen: sRGB, EXIF orientation applied, alpha laid on white.

    Returns: HWC uint8 RGB in [0, 255]. 16-bit and CMYK are converted; of an animation the first frame is taken.
    Raises: BadImage with reason `empty_file`, `unreadable` or `too_large`; MemoryError where memory runs out, which is
    no fault of the file.
    """
    if not data:
        raise BadImage("empty_file", "the file has no bytes")
    if len(data) > MAX_FILE_BYTES:
        raise BadImage("too_large", f"the file has {len(data)} bytes; at most {MAX_FILE_BYTES} are read")
    with _opened(BytesIO(data)) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(_to_rgb(_in_srgb(image)), dtype=np.uint8)


def check_form(data: bytes, form: str, mode: str | None = None) -> None:
    """Looks at the header alone: whether `data` is one image of Pillow's format `form` and mode `mode`, any for None.

    Raises: BadImage, also where it is an animation.
    """
    with _opened(BytesIO(data)) as image:
        if image.format != form or mode not in (None, image.mode) or getattr(image, "n_frames", 1) > 1:
            found = f"{image.format} with {getattr(image, 'n_frames', 1)} images of mode {image.mode}"
            raise BadImage("unreadable", f"is {found}, expected {form} with 1 of mode {mode or 'any'}")


def pixel_count(file: IO[bytes]) -> int:
    """How many pixels the image in `file` has, by its header; 0 for what `decode_image` refuses."""
    try:
        with _opened(file) as image:
            return image.width * image.height
    except BadImage:
        return 0


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    """An image whose size is allowed, its pixels not read yet. Raises: as `decode_image`, of the block, too."""
    pixels = _webp_pixels(file.read(30))
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow: what it warns of is either refused below or does not matter
            with Image.open(file, formats=READABLE_FORMATS) as image:
                _check_size(image.width, image.height)
                pixels = image.width * image.height
                yield image
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except UnidentifiedImageError:
        raise BadImage("unreadable", f"not one of {', '.join(READABLE_FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, IndexError, TypeError) as error:
        _check_memory(pixels)
        raise BadImage("unreadable", f"{type(error).__name__}: {error}"[:200]) from None


def _check_memory(pixels: int) -> None:
    """Raises: MemoryError where there is none for an image of so many pixels.

    Pillow's decoders say OSError where an allocation fails, as they do of a broken file: so it is tried out. The pages
    are never touched, so they cost nothing.
    """
    np.empty(pixels * DECODING_BYTES, dtype=np.uint8)


def _webp_pixels(head: bytes) -> int:
    """How many pixels the first 30 bytes of a WebP file say, 0 where too many or of another file.

    Pillow makes its canvas before it tells the size. Source: RFC 9649, sections 2.5 to 2.7.
    """
    width = height = 0
    match head[12:16] if head[8:12] == b"WEBP" else b"":
        case b"VP8X":
            width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        case b"VP8 ":
            width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return width * height if width * height <= MAX_PIXELS else 0


def _check_size(width_px: int, height_px: int) -> None:
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise BadImage(
            "too_large",
            f"{width_px} x {height_px} px; at most {MAX_SIDE_PX} px a side and {MAX_PIXELS // 1_000_000} megapixels",
        )


def _in_srgb(image: Image.Image) -> Image.Image:
    """The colours that an embedded profile means, in sRGB; a profile that cannot be read, or of another mode, is none.

    One that means sRGB leaves every pixel as it is, where a conversion would move some by one.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return image
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "LA":
        clear = _in_srgb(image.convert("L")).convert("RGB")
        clear.putalpha(image.getchannel("A"))
        return clear
    if image.mode not in _PROFILED:
        return image
    try:
        there = ImageCms.ImageCmsProfile(BytesIO(profile))
        made = ImageCms.buildTransform(there, ImageCms.createProfile("sRGB"), image.mode, _PROFILED[image.mode])
        return image if _keeps(made, image.mode) else _transformed(made, image)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _transformed(made: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    found = ImageCms.applyTransform(image, made)
    if found is None:
        raise ValueError("made no image")
    return found


def _keeps(made: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform of RGB colours leaves them as they are, but for rounding."""
    if not mode.startswith("RGB"):
        return False
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    found = np.asarray(_transformed(made, Image.fromarray(grid).convert(mode)).convert("RGB"), dtype=np.int16)
    return int(np.abs(found - grid).max()) <= 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_high_depth_to_u8(np.asarray(image, dtype=np.float64), image.mode)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # of RGB it would be a copy


def _high_depth_to_u8(values: NDArray[np.float64], mode: str) -> ImageU8:
    """16-bit greyscale by its full range; float images by [0, 1] where they fit in it, else by their own range."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = 0.0, 65_535.0
    if mode == "F":
        low, high = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (values.min(), values.max())
    return np.asarray(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255 + 0.5, dtype=np.uint8)


def encode_image(image_hwc_u8: ImageU8, image_format: ImageFormat) -> bytes:
    """`image_hwc_u8` (RGB) as bytes with no metadata: PNG, lossless, or JPEG quality 95 without chroma subsampling."""
    buffer = BytesIO()
    image = Image.fromarray(image_hwc_u8, "RGB")
    if image_format == "png":
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def data_url(data: bytes, image_format: ImageFormat) -> str:
    """An image file as a `data:` URL."""
    return f"data:image/{image_format};base64,{b64encode(data).decode()}"


def encode_mask_png(mask_hw: MaskBool) -> bytes:
    """A mask, or several stacked top to bottom, as 1-bit PNG (255 inside when read as greyscale)."""
    buffer = BytesIO()
    Image.fromarray(mask_hw).save(buffer, "PNG")
    return buffer.getvalue()


def encode_labels_png(labels_hw: LabelsU16) -> bytes:
    """A label map (0 is nothing) as a PNG of the same size whose pixels are the labels.

    Up to 255 in the colours of `label_colours`, so that it can be looked at; more as 16-bit greyscale.
    """
    buffer = BytesIO()
    if labels_hw.max(initial=0) > 255:
        Image.fromarray(labels_hw).save(buffer, "PNG")
    else:
        image = Image.fromarray(labels_hw.astype(np.uint8)).convert("L")
        image.putpalette(label_colours().tobytes())
        image.save(buffer, "PNG")
    return buffer.getvalue()


def decode_labels_png(data: bytes) -> LabelsU16:
    """The labels back. Raises: BadImage."""
    with _opened(BytesIO(data)) as image:
        if image.mode not in ("P", "L", "1", "I;16"):
            raise BadImage("unreadable", f"has pixels of mode {image.mode}, which are no labels")
        return np.asarray(image).astype(np.uint16)


def label_colours() -> ImageU8:
    """(256, 3) RGB: black for 0, then hues a golden angle apart, so that neighbours differ."""
    hues = [number * 0.618034 % 1 for number in range(255)]
    colours = [hsv_to_rgb(hue, 0.75 - 0.3 * (number % 2), 1.0) for number, hue in enumerate(hues)]
    return np.array([(0, 0, 0), *(tuple(round(255 * part) for part in colour) for colour in colours)], dtype=np.uint8)


def pixels_sha256(image_hwc_u8: ImageU8) -> str:
    """sha256 over height, width and the RGB bytes: the same pixels give the same hash whatever file they came in."""
    height, width = image_hwc_u8.shape[:2]
    digest = sha256(f"{height}x{width}:".encode())
    digest.update(np.ascontiguousarray(image_hwc_u8).data)
    return digest.hexdigest()


def fit_size_px(width_px: int, height_px: int, longest_side_px: int) -> tuple[int, int]:
    """(width, height) scaled down so that the longest side is at most `longest_side_px`; never up, never below 1."""
    scale = min(1.0, longest_side_px / max(width_px, height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def resize_image(image_hwc_u8: ImageU8, width_px: int, height_px: int) -> ImageU8:
    """`image_hwc_u8` at the given size (Lanczos); unchanged where it has that size."""
    if image_hwc_u8.shape[:2] == (height_px, width_px):
        return image_hwc_u8
    return np.array(Image.fromarray(image_hwc_u8, "RGB").resize((width_px, height_px), Image.Resampling.LANCZOS))


def resize_mask(mask_hw: MaskBool, width_px: int, height_px: int) -> MaskBool:
    """`mask_hw` at the given size (nearest neighbour)."""
    if mask_hw.shape == (height_px, width_px):
        return mask_hw
    return np.array(Image.fromarray(mask_hw).resize((width_px, height_px), Image.Resampling.NEAREST), dtype=np.bool_)


def box_mask(box: Box, height_px: int, width_px: int) -> MaskBool:
    """The mask (H, W, bool) that fills `box`."""
    mask = np.zeros((height_px, width_px), dtype=np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def scale_box(box: Box, from_size: tuple[int, int], to_size: tuple[int, int]) -> Box:
    """`box` from one image size (width, height) to another, rounded outwards to whole pixels, clipped to the image."""
    (from_width, from_height), (to_width, to_height) = from_size, to_size
    x_scale, y_scale = to_width / from_width, to_height / from_height
    x1 = min(int(box[0] * x_scale), to_width - 1)
    y1 = min(int(box[1] * y_scale), to_height - 1)
    x2 = min(max(int(-(-box[2] * x_scale // 1)), x1 + 1), to_width)
    y2 = min(max(int(-(-box[3] * y_scale // 1)), y1 + 1), to_height)
    return x1, y1, x2, y2
