"""Decoding what comes from outside, and the round trips of boxes, masks and pixels."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngImageFile

from runtime import images
from runtime.images import (
    BadImage,
    box_mask,
    decode_image,
    encode_image,
    encode_mask_png,
    fit_size_px,
    pixel_count,
    pixels_sha256,
    scale_box,
)
from runtime.masks import mask_box, mask_to_rle, rle_to_mask
from schemas.geometry import CocoRle
from tests.cases.icc import ADOBE_RGB, DISPLAY_P3, cmyk_profile, grey_profile, rgb_profile
from tests.cases.pictures import png_header

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


def _bytes(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _gradient(width: int = 40, height: int = 24) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 6, y * 10, (x + y) * 3], axis=2).astype(np.uint8)


@given(MASKS)
def test_rle_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(rle_to_mask(mask_to_rle(mask)), mask)


@given(MASKS)
def test_mask_png_round_trip(mask: np.ndarray) -> None:
    with Image.open(io.BytesIO(encode_mask_png(mask))) as image:
        assert np.array_equal(np.asarray(image.convert("L")) == 255, mask)


@given(MASKS)
def test_mask_box_is_tight(mask: np.ndarray) -> None:
    box = mask_box(mask)
    if box is None:
        assert not mask.any()
        return
    x1, y1, x2, y2 = box
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    assert [edge.any() for edge in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1])] == [True] * 4


@pytest.mark.parametrize("counts", ["", "0", "o", "`" * 40, "11111", "zz", "1111111111111111"])
def test_rle_that_does_not_fill_its_size_is_refused(counts: str) -> None:
    with pytest.raises(ValueError, match=r"RLE|pattern"):
        rle_to_mask(CocoRle(size=(6, 7), counts=counts))


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.data())
def test_scaled_boxes_stay_in_the_image_and_keep_an_area(
    width: int, height: int, longest: int, data: st.DataObject
) -> None:
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    new_width, new_height = fit_size_px(width, height, longest)
    scaled = scale_box((x1, y1, x2, y2), (width, height), (new_width, new_height))
    assert 0 <= scaled[0] < scaled[2] <= new_width
    assert 0 <= scaled[1] < scaled[3] <= new_height
    assert box_mask(scaled, new_height, new_width).any()


def test_png_keeps_every_pixel_and_the_hash_knows_pixels_alone() -> None:
    image = _gradient()
    assert np.array_equal(decode_image(encode_image(image, "png")), image)
    assert pixels_sha256(image) == pixels_sha256(decode_image(_bytes(Image.fromarray(image), "BMP")))
    assert pixels_sha256(image) != pixels_sha256(image.reshape(image.shape[1], image.shape[0], 3))


def test_jpeg_is_near() -> None:
    image = _gradient()
    assert np.abs(decode_image(encode_image(image, "jpeg")).astype(int) - image).mean() < 2


def test_exif_orientation_is_applied_and_no_metadata_survives() -> None:
    image = Image.fromarray(_gradient(40, 24))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif.get_ifd(0x8825)[1] = "N"  # GPS latitude reference
    decoded = decode_image(_bytes(image, "JPEG", exif=exif, quality=95))
    assert decoded.shape == (40, 24, 3)
    with Image.open(io.BytesIO(encode_image(decoded, "jpeg"))) as written:
        assert not written.getexif()
    assert b"Exif" not in encode_image(decoded, "png") + encode_image(decoded, "jpeg")


def test_cmyk_is_read_as_rgb() -> None:
    decoded = decode_image(_bytes(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95))
    assert decoded.shape == (20, 20, 3)
    assert decoded[10, 10, 0] > 200 > 60 > decoded[10, 10, 2]


def test_sixteen_bits_keep_their_greys() -> None:
    values = np.linspace(0, 65_535, 30 * 20).reshape(20, 30).astype(np.uint16)
    decoded = decode_image(_bytes(Image.fromarray(values), "PNG"))
    assert decoded[0, 0, 0] == 0
    assert decoded[-1, -1, 0] == 255
    assert abs(int(decoded[10, 0, 1]) - 128) < 3


def test_a_palette_with_alpha_lies_on_white() -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    palette = image.quantize(4)
    decoded = decode_image(_bytes(palette, "PNG"))
    assert tuple(decoded[5, 15]) == (255, 255, 255)
    assert decoded[5, 5, 2] > 200 > 60 > decoded[5, 5, 0]


def test_a_bomb_is_refused_before_its_pixels_are_read() -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(png_header(40_000, 40_000))
    assert caught.value.reason == "too_large"


def test_pixels_are_counted_by_the_header_and_none_of_what_is_refused() -> None:
    assert pixel_count(io.BytesIO(png_header(7_900, 7_900))) == 7_900 * 7_900
    assert pixel_count(io.BytesIO(_bytes(Image.fromarray(_gradient(40, 24)), "JPEG"))) == 40 * 24
    for refused in (png_header(40_000, 40_000), b"", b"not an image"):
        assert pixel_count(io.BytesIO(refused)) == 0


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exact": True, "icc_profile": b"x" * 200}])
def test_a_webp_says_its_pixels_before_it_is_opened(options: dict[str, object]) -> None:
    image = Image.fromarray(_gradient(40, 24))
    assert images._webp_pixels(_bytes(image, "WEBP", **options)[:30]) == 40 * 24
    assert images._webp_pixels(_bytes(image, "PNG")[:30]) == 0
    assert images._webp_pixels(b"RIFFsizeWEBPVP8X" + b"\xff" * 14) == 0


def test_memory_that_runs_out_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow says MemoryError, or OSError of a decoder, as it does of a broken file."""
    data = _bytes(Image.fromarray(_gradient()), "PNG")

    def fails(error: Exception) -> None:
        def load(_: Image.Image) -> None:
            raise error

        monkeypatch.setattr(PngImageFile, "load", load)
        decode_image(data)

    with pytest.raises(MemoryError):
        fails(MemoryError())
    with pytest.raises(BadImage, match="out of memory error when reading"):  # there is memory: the file lied
        fails(OSError("out of memory error when reading image file"))
    monkeypatch.setattr(images, "DECODING_BYTES", 2**50)
    with pytest.raises(MemoryError):
        fails(OSError("out of memory error when reading image file"))


def test_a_truncated_and_an_empty_file_are_refused() -> None:
    whole = _bytes(Image.fromarray(_gradient(200, 200)), "PNG")
    for data, reason in (
        (whole[: len(whole) // 2], "unreadable"),
        (b"", "empty_file"),
        (b"not an image", "unreadable"),
    ):
        with pytest.raises(BadImage) as caught:
            decode_image(data)
        assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_any_bytes_are_an_image_or_a_clean_refusal(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\x00", b"\xff\xd8\xff\xe0"):
        assert _outcome(start + data) in {"image", "empty_file", "unreadable", "too_large"}


def _outcome(data: bytes) -> str:
    try:
        return "image" if decode_image(data).ndim == 3 else "odd"
    except BadImage as error:
        return error.reason


def _with_profile(image: Image.Image, profile: bytes, image_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, icc_profile=profile, lossless=True)
    return buffer.getvalue()


def _srgb_by_hand(rgb: tuple[int, int, int], primaries_xyz: tuple[tuple[float, ...], ...], gamma: float) -> np.ndarray:
    """The sRGB values of a colour of another space, by the formulas: IEC 61966-2-1 with Bradford-adapted primaries."""
    xyz = np.transpose(primaries_xyz) @ (np.array(rgb) / 255) ** gamma
    srgb_xyz = np.transpose(((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)))
    linear = np.clip(np.linalg.solve(srgb_xyz, xyz), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (ADOBE_RGB, 2.19921875)])
def test_colours_are_those_that_the_profile_means(
    image_format: str, primaries: tuple[tuple[float, float, float], ...], gamma: float
) -> None:
    for colour in ((200, 100, 50), (30, 60, 200), (255, 255, 255)):
        image = Image.new("RGB", (8, 8), colour)
        found = decode_image(_with_profile(image, rgb_profile(primaries, gamma), image_format))
        assert np.abs(found - _srgb_by_hand(colour, primaries, gamma)).max() < 2.5
        assert colour == (255, 255, 255) or np.abs(found - np.array(colour, float)).max() > 9


def test_a_profile_of_srgb_changes_no_pixel() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_image(_with_profile(image, profile, "PNG")), np.asarray(image))


@pytest.mark.parametrize("profile", [b"no profile", rgb_profile(DISPLAY_P3, 2.2)[:200], bytes(500)])
def test_a_profile_that_cannot_be_read_is_none(profile: bytes) -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    assert (decode_image(_with_profile(image, profile, "PNG")) == (200, 100, 50)).all()


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16"])
def test_a_profile_of_another_mode_is_none(mode: str) -> None:
    image = Image.new(mode, (8, 8), 77 if mode != "CMYK" else (10, 20, 30, 40))
    plain, profiled = (_with_profile(image, data, "TIFF") for data in (b"", rgb_profile(DISPLAY_P3, 2.2)))
    assert np.array_equal(decode_image(profiled), decode_image(plain))


def test_alpha_and_palettes_follow_the_profile_too() -> None:
    profile = rgb_profile(DISPLAY_P3, 2.2)
    clear = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    assert (decode_image(_with_profile(clear, profile, "PNG")) == 255).all()
    palette = Image.new("RGB", (8, 8), (200, 100, 50)).quantize(4)
    assert np.abs(decode_image(_with_profile(palette, profile, "PNG")).astype(int) - (216, 93, 24)).max() <= 1


def test_grey_follows_its_profile_with_alpha_and_without() -> None:
    meant = round(255 * (1.055 * (128 / 255) ** (1.0 / 2.4) - 0.055))  # linear light as sRGB writes it
    for image in (Image.new("L", (8, 8), 128), Image.new("LA", (8, 8), (128, 255))):
        found = decode_image(_with_profile(image, grey_profile(1.0), "PNG"))
        assert np.abs(found.astype(int) - meant).max() <= 2, image.mode
    clear = decode_image(_with_profile(Image.new("LA", (8, 8), (128, 0)), grey_profile(1.0), "PNG"))
    assert (clear == 255).all()


@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_inks_are_the_colours_that_their_profile_means(image_format: str) -> None:
    red_ink = cmyk_profile(paper_lab=(230, 128, 200), ink_lab=(20, 200, 128))
    found = decode_image(_with_profile(Image.new("CMYK", (16, 16), (128, 0, 0, 0)), red_ink, image_format))
    red, _, blue = found.reshape(-1, 3).mean(axis=0)
    assert red > blue + 80  # without the profile it is cyan
