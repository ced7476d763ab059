"""Checkpoints of Sam: what was written is read, the architecture is recognised, everything else is one clear line."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from pipeline.models import sam_files
from pipeline.models.sam import load_sam
from pipeline.models.sam_architectures import (
    ARCHITECTURES,
    SamSizes,
    build_sam,
    name_of,
    sizes_from_metadata,
    sizes_of_tensors,
    sizes_to_metadata,
)
from pipeline.models.sam_checkpoint import read_checkpoint, write_checkpoint
from pipeline.models.sam_files import DOWNLOAD_PAGE, checkpoint_path
from schemas.errors import BadInput
from tests.cases.sam_cases import SMALL, random_sam


@pytest.fixture(scope="module")
def tiny() -> Sam:
    return random_sam(ARCHITECTURES["tiny"])


def shapes(sam: Sam) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}


@pytest.mark.parametrize("name", ["vit_h", "vit_l", "vit_b"])
def test_the_published_architectures_are_those_of_the_package(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = sam_model_registry[name](), build_sam(name)
    assert shapes(ours) == shapes(theirs)
    assert repr(ours) == repr(theirs)
    windows = [[block.window_size for block in sam.image_encoder.blocks] for sam in (ours, theirs)]
    assert windows[0] == windows[1]
    assert ours.mask_decoder.transformer.num_heads == theirs.mask_decoder.transformer.num_heads
    assert replace(sizes_of_tensors(shapes(theirs)), decoder_heads=8) == ARCHITECTURES[name]


def test_sizes_go_through_metadata() -> None:
    for sizes in (*ARCHITECTURES.values(), SMALL):
        assert sizes_from_metadata(sizes_to_metadata(sizes)) == sizes
    assert sizes_from_metadata({}) is None
    assert [name_of(sizes) for sizes in (*ARCHITECTURES.values(), SMALL)] == [*ARCHITECTURES, None]


@pytest.mark.parametrize(
    "change",
    [
        {"patch_px": 15},
        {"encoder_heads": 5},
        {"encoder_dim": 0},
        {"image_px": 128.0},
        {"encoder_depth": True},
        {"prompt_dim": 36},
        {"decoder_heads": 3},
        {"global_blocks": (2,)},
        {"encoder_mlp_dim": 100},
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"size|divide|global_blocks"):
        replace(SMALL, **change)


@pytest.mark.parametrize("sizes", [SMALL, ARCHITECTURES["tiny"]], ids=["small", "tiny"])
def test_what_was_written_is_read(sizes: SamSizes, tmp_path: Path) -> None:
    sam, path = random_sam(sizes), tmp_path / "sam.safetensors"
    write_checkpoint(path, sam, sizes, {"seed": "7"})
    found = read_checkpoint(path)
    assert found.sizes == sizes
    assert found.architecture == ("tiny" if sizes == ARCHITECTURES["tiny"] else "custom")
    wanted = sam.state_dict()
    assert found.sam.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.sam.state_dict().items())
    assert torch.equal(found.sam.pixel_mean, sam.pixel_mean)
    assert torch.equal(found.sam.pixel_std, sam.pixel_std)
    assert not found.sam.training
    assert not any(weight.requires_grad for weight in found.sam.parameters())


def test_half_precision_weights_become_fp32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    write_checkpoint(path, random_sam().half(), SMALL)
    assert {tensor.dtype for tensor in read_checkpoint(path).sam.state_dict().values()} == {torch.float32}


def test_a_pth_of_a_known_architecture_is_recognised_by_its_tensors(tiny: Sam, tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save(tiny.state_dict(), path)
    assert read_checkpoint(path).architecture == "tiny"


def refused(path: Path, message: str, remedy: str = DOWNLOAD_PAGE) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        read_checkpoint(path)
    assert str(path) in str(raised.value)
    assert remedy in raised.value.remedy


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save(random_sam().state_dict(), path)
    refused(path, r"is a Sam of an unknown architecture \(128 px, 2 blocks of 48\)", "vit_h, vit_l, vit_b, tiny")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(3)}, "it has no tensor image_encoder.patch_embed.proj.weight"),
        ({}, "holds no tensor"),
        ([1, 2], "holds a list, no named tensors"),
        ({"weight": [1, 2]}, "holds more than tensors: 'weight' is a list"),
        ({"model": {"weight": torch.zeros(3)}}, "it has no tensor image_encoder.patch_embed.proj.weight"),
        ({"image_encoder.patch_embed.proj.weight": torch.zeros(3)}, "is no Sam of segment-anything"),
        ({"weight": torch.zeros(1).expand(10**12)}, "claims more weights than it has bytes"),
    ],
)
def test_another_models_weights_are_refused(tensors: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(tensors, path)
    refused(path, message)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("mask_decoder.iou_token.weight", None, r"tensor mask_decoder.iou_token.weight is None, expected \(1, 96\)"),
        ("mask_decoder.more", torch.zeros(2), r"tensor mask_decoder.more is \(2,\), expected None"),
        ("mask_decoder.iou_token.weight", torch.zeros(1, 32), r"is \(1, 32\), expected \(1, 96\)"),
        ("mask_decoder.iou_token.weight", torch.full((1, 96), float("nan")), "has values that are not finite"),
        ("mask_decoder.iou_token.weight", torch.full((1, 96), float("inf")), "has values that are not finite"),
        ("mask_decoder.iou_token.weight", torch.zeros(1, 96, dtype=torch.int64), "expected floats"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(
    tiny: Sam, name: str, tensor: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    tensors = tiny.state_dict() | ({} if tensor is None else {name: tensor})
    if tensor is None:
        del tensors[name]
    path = tmp_path / "sam.safetensors"
    save_file(tensors, path, sizes_to_metadata(ARCHITECTURES["tiny"]))
    refused(path, message)


@pytest.mark.parametrize("metadata", [{"sam_sizes": "no json"}, {"sam_sizes": "[]"}, {"sam_sizes": '{"image_px": 9}'}])
def test_broken_metadata_are_refused(tiny: Sam, metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    save_file(tiny.state_dict(), path, metadata)
    refused(path, "is no Sam of segment-anything")


def test_metadata_of_another_architecture_are_refused(tiny: Sam, tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    save_file(tiny.state_dict(), path, sizes_to_metadata(ARCHITECTURES["vit_h"]))
    refused(path, "has tensors of another architecture than its metadata say")


class Harm:
    """What a hostile pickle does: it runs something when it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harm"),))


def test_no_code_of_a_pth_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, save in (
        ("zip.pth", torch.save),
        ("plain.pth", lambda value, path: path.write_bytes(pickle.dumps(value))),
    ):
        save(Harm(), tmp_path / name)
        refused(tmp_path / name, r"holds more than tensors")
    assert not Path("harm").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_refused(tiny: Sam, suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(tiny.state_dict(), whole)
    else:
        write_checkpoint(whole, tiny, ARCHITECTURES["tiny"])
    data = whole.read_bytes()
    for damaged in (b"", b"hello", bytes(1000), data[: len(data) // 2], data[:-1000], b"\xff" * 50 + data[50:]):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(damaged)
        refused(path, r"is no whole (checkpoint|safetensors file)")


@pytest.mark.parametrize("name", ["vit_h", "vit_l", "vit_b"])
def test_a_name_without_a_file_says_what_to_download(name: str) -> None:
    with pytest.raises(BadInput, match=rf"download sam_{name}_\w+\.pth from https://github.com/facebookresearch"):
        load_sam(name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="does not say where its weights are"):
        load_sam(None)
    with pytest.raises(BadInput, match=rf"nowhere.pth: does not exist; download a checkpoint from {DOWNLOAD_PAGE}"):
        load_sam("nowhere.pth")
    with pytest.raises(BadInput, match="is no file"):
        load_sam(str(tmp_path))
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"does not end in \.pth, \.pt, \.safetensors"):
        load_sam(str(tmp_path / "weights.bin"))
    monkeypatch.setattr(sam_files, "TINY_WEIGHTS", tmp_path / "sam_tiny.safetensors")
    with pytest.raises(BadInput, match=r"sam_tiny.safetensors: does not exist; make them with `python -m training"):
        checkpoint_path("tiny")
