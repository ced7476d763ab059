"""Edits of what samples hold: the JSON of a row, its masks, its pictures."""

import io
import json
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runtime.images import encode_labels_png
from runtime.masks import mask_to_rle
from tests.edits.edit import CARD, DIGEST, ROWS, Edit, Json, at, leaves, on_member, on_row, put

IMAGE_SCORES = ("background", "success", "overedit", "naturalness", "artifacts")


def _leaf(draw: Random, row: Json, *types: type) -> tuple[Any, ...]:
    return draw.choice([path for path in leaves(row) if type(at(row, path)) in types])


def _number(draw: Random, row: Json) -> None:
    path = _leaf(draw, row, int, float)
    value = at(row, path)
    put(row, path, draw.choice([value + 1, value - 1, value * 2 + 1, -value - 1, 0, value + 1e-6]))


def _huge_number(draw: Random, row: Json) -> None:
    put(row, _leaf(draw, row, int, float), draw.choice([10**400, 1e308, -(10**30), 2**63]))


def _word(draw: Random, row: Json) -> None:
    path = _leaf(draw, row, str)
    value = at(row, path)
    put(row, path, draw.choice([value + "x", value[1:], value.swapcase(), "", value + " ", "\udcff", "é" + value]))


def _flag(draw: Random, row: Json) -> None:
    path = _leaf(draw, row, bool)
    put(row, path, not at(row, path))


def _to_null(draw: Random, row: Json) -> None:
    put(row, _leaf(draw, row, int, float, str, bool), None)


def _other_type(draw: Random, row: Json) -> None:
    path = _leaf(draw, row, int, float, bool)
    put(row, path, draw.choice([str(at(row, path)), [at(row, path)], {"value": at(row, path)}]))


def _key_added(draw: Random, row: Json) -> None:
    draw.choice([row, row["regions"][0], row["regions"][0]["mask"], row["targets"][0]])["extra"] = 1


def _key_removed(draw: Random, row: Json) -> None:
    part = draw.choice([row, row["regions"][0], row["targets"][0]])
    del part[draw.choice(sorted(part))]


def _score(draw: Random, row: Json) -> None:
    regions = [region for region in row["regions"] if region["success"] is not None]
    part, name = draw.choice([(row, name) for name in IMAGE_SCORES] + [(one, "success") for one in regions])
    part[name] = (part[name] + draw.randrange(1, 25)) % 26


def _least_score(draw: Random, row: Json) -> None:
    region = draw.choice([region for region in row["regions"] if region["success"] is not None])
    region[draw.choice(["success", "preserve"])] = region["phi"] - 0.5


def _score_out_of_range(draw: Random, row: Json) -> None:
    row[draw.choice(IMAGE_SCORES)] = draw.choice([25.5, -1, float("nan"), float("inf"), 1e300])


def _scores_invented(draw: Random, row: Json) -> None:
    row[draw.choice(IMAGE_SCORES[:3])] = 20.0


def _derived(draw: Random, row: Json) -> None:
    part, name = draw.choice([(row, "aesthetics"), (row, "background_reward"), *_rewards(row)])
    part[name] = draw.choice([value for value in (0.0, 0.5, 1.0, None) if value != part[name]])


def _rewards(row: Json) -> list[tuple[Json, str]]:
    return [(region, name) for region in row["regions"] for name in ("phi", "reward")]


def _area(draw: Random, row: Json) -> None:
    draw.choice(row["regions"])["area_px"] += draw.choice([-1, 1])


def _box(draw: Random, row: Json) -> None:
    region = draw.choice([region for region in row["regions"] if region["box"]])
    region["box"] = draw.choice([None, [0, 0, 64, 64], [region["box"][0] + 1, *region["box"][1:]]])


def _pixel_hash(draw: Random, row: Json) -> None:
    value = f"{draw.getrandbits(256):064x}"
    if draw.random() < 0.5:
        row["edited_pixels_sha256"] = value
    else:
        row["source_pixels_sha256"][0] = value


def _size(draw: Random, row: Json) -> None:
    row[draw.choice(["width_px", "height_px"])] += draw.choice([-1, 1])


def _split(draw: Random, row: Json) -> None:
    row["split"] = draw.choice([split for split in ("train", "validation", "test") if split != row["split"]])


def _schema(draw: Random, row: Json) -> None:
    row["schema"] = draw.choice(["dataset-row/1", "dataset-row/3", "", None, 2])


def _synthetic(draw: Random, row: Json) -> None:
    row["synthetic"] = not row["synthetic"]


def _other_mask(draw: Random, row: Json) -> None:
    mask = draw.choice(row["regions"])["mask"]
    drawn = np.zeros(mask["size"], dtype=bool)
    drawn[draw.randrange(10, 30) :, draw.randrange(10, 30) : 40] = True
    mask["counts"] = mask_to_rle(drawn).counts


def _damaged_mask(draw: Random, row: Json) -> None:
    mask = draw.choice(row["regions"])["mask"]
    counts = mask["counts"]
    mask["counts"] = draw.choice([counts[:-1], counts + "0", "", counts + "~~", "o" * 40, "\x00" + counts, "é"])


def _mask_size(draw: Random, row: Json) -> None:
    mask = draw.choice(row["regions"])["mask"]
    mask["size"] = draw.choice([[1, 1], [mask["size"][0] + 1, mask["size"][1]], [10**6, 10**6], [], [0, 0]])


def _region_removed(draw: Random, row: Json) -> None:
    row["regions"].pop(draw.randrange(len(row["regions"])))


def _region_doubled(draw: Random, row: Json) -> None:
    row["regions"].append(draw.choice(row["regions"]))


def _regions_reordered(draw: Random, row: Json) -> None:
    row["regions"].reverse()


def _region_renamed(draw: Random, row: Json) -> None:
    draw.choice(row["regions"])["region"] = f"{draw.getrandbits(64):016x}"


def _instruction(draw: Random, row: Json) -> None:
    row["instruction"] = row["instruction"].replace(" the ", " no ", 1) + "!"


def _rewritten_text(draw: Random, data: bytes) -> bytes:
    row = json.loads(data)
    keys = list(row)
    draw.shuffle(keys)
    shuffled = {key: row[key] for key in keys}
    return draw.choice(
        [
            json.dumps(row).encode(),
            json.dumps(row, indent=1, sort_keys=True).encode(),
            json.dumps(shuffled, separators=(",", ":"), ensure_ascii=False).encode(),
            data + b"\n",
            data.replace(b".0,", b",", 1),
            data.replace(b".0,", b".00,", 1),
        ]
    )


def _broken_text(draw: Random, data: bytes) -> bytes:
    twice = b'{"instruction":"another",' + data[1:]
    broken = [b"", b"{}", b"[]", b"null", data[:-1], data + b"}", b"\xff" + data, b"[" * 100_000, data[:100]]
    return draw.choice([*broken, b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), twice])


def _picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _png(image: Image.Image, **options: Any) -> bytes:
    made = io.BytesIO()
    image.save(made, "PNG", **options)
    return made.getvalue()


def _repacked(draw: Random, data: bytes) -> bytes:
    return _png(_picture(data), compress_level=draw.choice([0, 1, 9]), optimize=draw.random() < 0.3)


def _pixel(draw: Random, data: bytes) -> bytes:
    pixels = np.array(_picture(data))
    row, column = (draw.randrange(side) for side in pixels.shape[:2])
    pixels[row, column] ^= draw.choice([1, 128])
    return _png(Image.fromarray(pixels))


def _label(draw: Random, data: bytes) -> bytes:
    labels = np.array(_picture(data)).astype(np.uint16)
    labels[draw.randrange(labels.shape[0]), draw.randrange(labels.shape[1])] += 1
    return encode_labels_png(labels)


def _chunk(draw: Random, data: bytes) -> bytes:
    info = PngInfo()
    info.add_text("Comment", "mine")
    written: list[Json] = [{"pnginfo": info}, {"dpi": (72, 72)}, {"icc_profile": b"none"}]
    return _png(_picture(data), **draw.choice(written))


def _after_the_end(draw: Random, data: bytes) -> bytes:
    return data + draw.randbytes(draw.randrange(1, 100))


def _other_mode(draw: Random, data: bytes) -> bytes:
    return _png(_picture(data).convert("RGBA"))


def _grey(draw: Random, data: bytes) -> bytes:
    return _png(_picture(data).convert(draw.choice(["L", "P", "1"])))


def _other_size(draw: Random, data: bytes) -> bytes:
    image = _picture(data)
    return _png(image.crop((0, 0, image.width - draw.randrange(1, 9), image.height)))


def _other_codec(draw: Random, data: bytes) -> bytes:
    made = io.BytesIO()
    codec, options = draw.choice([("JPEG", {}), ("WEBP", {"lossless": True}), ("BMP", {})])
    _picture(data).convert("RGB").save(made, codec, **options)
    return made.getvalue()


def _no_picture(draw: Random, data: bytes) -> bytes:
    return draw.choice([b"", data[: len(data) // 2], data[:8], b"GIF89a", data[:40] + bytes(100), draw.randbytes(300)])


def _scored(row: Json) -> bool:
    return any(region["success"] is not None for region in row["regions"])


EDITS = (
    Edit("row: a number", on_row(_number)),
    Edit("row: a huge number", on_row(_huge_number)),
    Edit("row: a word", on_row(_word)),
    Edit("row: a flag", on_row(_flag, lambda row: any(type(at(row, path)) is bool for path in leaves(row)))),
    Edit("row: a value taken away", on_row(_to_null)),
    Edit("row: another type", on_row(_other_type)),
    Edit("row: a field added", on_row(_key_added), CARD),
    Edit("row: a field removed", on_row(_key_removed)),
    Edit("row: a score", on_row(_score, _scored)),
    Edit("row: the lower of two scores", on_row(_least_score, _scored), DIGEST),
    Edit("row: a score out of range", on_row(_score_out_of_range, _scored), CARD),
    Edit("row: a score where none is", on_row(_scores_invented, lambda row: not _scored(row)), CARD),
    Edit("row: phi, reward or AES", on_row(_derived, _scored), DIGEST),
    Edit("row: an area", on_row(_area), DIGEST),
    Edit("row: a box", on_row(_box, lambda row: any(region["box"] for region in row["regions"])), DIGEST),
    Edit("row: a hash of pixels", on_row(_pixel_hash), DIGEST),
    Edit("row: width or height", on_row(_size), DIGEST),
    Edit("row: split", on_row(_split), CARD),
    Edit("row: schema", on_row(_schema), CARD),
    Edit("row: synthetic", on_row(_synthetic), CARD),
    Edit("row: another mask", on_row(_other_mask), DIGEST),
    Edit("row: a damaged mask", on_row(_damaged_mask)),
    Edit("row: the size of a mask", on_row(_mask_size), CARD),
    Edit("row: a region removed", on_row(_region_removed), DIGEST),
    Edit("row: a region doubled", on_row(_region_doubled), CARD),
    Edit("row: regions reordered", on_row(_regions_reordered, lambda row: len(row["regions"]) > 1), DIGEST),
    Edit("row: id of a region", on_row(_region_renamed)),
    Edit("row: instruction", on_row(_instruction)),
    Edit("row: written in another way", on_member(".json", _rewritten_text)),
    Edit("row: no JSON of a row", on_member(".json", _broken_text), DIGEST),
    Edit("picture: compressed anew", on_member("d.png", _repacked)),
    Edit("picture: a pixel of the candidate", on_member("edited.png", _pixel), DIGEST),
    Edit("picture: a pixel of a source", on_member("source.png", _pixel), DIGEST),
    Edit("picture: a pixel of the regions", on_member("regions.png", _label), DIGEST),
    Edit("picture: metadata", on_member(".png", _chunk)),
    Edit("picture: bytes after its end", on_member(".png", _after_the_end)),
    Edit("picture: RGBA", on_member("d.png", _other_mode), CARD),
    Edit("picture: grey or a palette", on_member("e.png", _grey), CARD),
    Edit("picture: of another size", on_member("d.png", _other_size), ROWS),
    Edit("picture: of another codec", on_member("d.png", _other_codec), CARD),
    Edit("picture: none", on_member(".png", _no_picture), CARD),
)
