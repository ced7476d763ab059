"""GroundingDINO by its own package and by transformers: the same weights, the same answers; bad checkpoints refused.

One small random model of the real class (a narrow Swin-T, two layers each) is made once and copied where a test damages
it. What is narrow is checked at its full width by the package itself.
"""

import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flows.cli import main
from pipeline.models import groundingdino, groundingdino_transformers
from pipeline.models.checkpoint import read_weights
from pipeline.models.convert import convert
from pipeline.models.detections import DetectSettings
from pipeline.models.grounding import GroundingDetector, Preprocessing, preprocessed
from pipeline.models.groundingdino_keys import RENAMES, SWIN, to_transformers
from schemas.errors import BadInput
from tests.cases.model_cases import (
    SPECIAL,
    narrow_swin,
    picture,
    write_bert,
    write_grounding_dino,
    write_groundingdino,
)

ALL = DetectSettings(box_threshold=0, score_threshold=0, nms_iou=1, max_detections=1000)
CAPTIONS = ["red cup. dog.", "blue cat. cup."]
PHRASES = [["red cup", "dog"], ["cat", "a blue cups", "dog"]]
PUBLISHED_SWIN = dict(SWIN)
SMALL = Preprocessing(64, 107)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    with narrow_swin():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of groundingdino-py with all that lies beside it; never changed."""
    return write_groundingdino(tmp_path_factory.mktemp("groundingdino"))


@pytest.fixture(scope="module")
def folder(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights for transformers; never changed."""
    return write_grounding_dino(place, tmp_path_factory.mktemp("transformers") / "folder")


@pytest.fixture(scope="module")
def package(place: Path) -> GroundingDetector:
    return groundingdino.load(place, settings=ALL)


@pytest.fixture(scope="module")
def transformers(folder: Path) -> GroundingDetector:
    return groundingdino_transformers.load(folder, settings=ALL)


@pytest.fixture
def small(package: GroundingDetector, transformers: GroundingDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look at images of 64 px instead of 800."""
    for detector in (package, transformers):
        monkeypatch.setattr(detector, "_preprocessing", SMALL)


def copied(place: Path, to: Path) -> Path:
    """The checkpoint's small files in another folder, its weights by a link."""
    shutil.copytree(place.parent / groundingdino.BERT_FOLDER, to / groundingdino.BERT_FOLDER)
    shutil.copy(place.with_suffix(".py"), to)
    (to / place.name).symlink_to(place)
    return to / place.name


def test_both_implementations_answer_alike(package: GroundingDetector, transformers: GroundingDetector) -> None:
    """Within 1e-4, relative for logits: they do the same sums in another order. Boxes are shares of the image.

    One thing they do not do alike: a box's corner within .001 of the image's edge is kept off it by groundingdino-py
    (inverse sigmoid with eps 1e-3) more than by transformers (1e-5); no box of this model lies there.
    """
    pixels = np.stack([preprocessed(picture(80, 60, seed), (80, 64), SMALL) for seed in (0, 1)])
    (boxes, logits), (other_boxes, other_logits) = (
        detector._model.answer(pixels, CAPTIONS) for detector in (package, transformers)
    )
    assert boxes.shape == other_boxes.shape == (2, 20, 4)
    assert boxes.std() > 0.01
    assert np.abs(boxes - other_boxes).max() < 1e-4
    told = np.isfinite(logits)
    assert (told == np.isfinite(other_logits)).all()
    assert np.abs(logits[told] - other_logits[told]).max() < 1e-4 * np.abs(logits[told]).max()


@pytest.mark.usefixtures("small")
def test_both_detectors_find_the_same(package: GroundingDetector, transformers: GroundingDetector) -> None:
    images = [picture(80, 60), picture(40, 40, 1)]
    found, other = package.detect(images, PHRASES), transformers.detect(images, PHRASES)
    for ours, theirs in zip(found, other, strict=True):
        assert len(ours) == len(theirs) == 20
        assert [one.phrase for one in ours] == [one.phrase for one in theirs]
        for one, same in zip(ours, theirs, strict=True):
            assert one.score == pytest.approx(same.score, abs=1e-4)
            assert one.box == pytest.approx(same.box, abs=80e-4)


@pytest.mark.usefixtures("small")
def test_an_image_is_seen_alike_alone_and_in_company(package: GroundingDetector) -> None:
    """Captions of the same length, too: groundingdino-py would mix up which tokens see each other."""
    asked = [["cat"], ["red cup", "dog"], ["dog", "red cup"], ["a dog"], ["blue cat", "cup"]]
    images = [picture(64, 64, seed) for seed in range(len(asked))]
    together = package.detect(images, asked)
    for image, phrases, found in zip(images, asked, together, strict=True):
        (alone,) = package.detect([image], [phrases])
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], abs=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [(1, 1), (20, 20), (1, 900)])
def test_images_of_any_size_are_looked_at(
    package: GroundingDetector, transformers: GroundingDetector, size: tuple[int, int]
) -> None:
    for detector in (package, transformers):
        for one in detector.detect([picture(*size)], [["dog"]])[0]:
            assert 0 <= one.box[0] < one.box[2] <= size[0]
            assert 0 <= one.box[1] < one.box[3] <= size[1]


@pytest.mark.usefixtures("small")
def test_nothing_is_found_above_an_unreachable_threshold(package: GroundingDetector) -> None:
    package.settings, before = DetectSettings(box_threshold=1), package.settings
    try:
        assert package.detect([picture(64, 64)], [["dog"]]) == [[]]
    finally:
        package.settings = before


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("which", ["package", "transformers"])
def test_nan_in_the_weights_names_the_model(which: str, request: pytest.FixtureRequest) -> None:
    detector: Any = request.getfixturevalue(which)
    weight = next(weight for name, weight in detector._model._model.named_parameters() if "bbox_embed.0" in name)
    before = weight.data.clone()
    try:
        weight.data.fill_(float("nan"))
        with pytest.raises(BadInput, match=rf"^{detector.name} sha256:[0-9a-f]{{16}}: answered \d+ of \d+ boxes that"):
            detector.detect([picture(64, 64)], [["dog"]])
    finally:
        weight.data.copy_(before)


def test_the_revision_says_which_files_it_was(place: Path, package: GroundingDetector, tmp_path: Path) -> None:
    copy = copied(place, tmp_path)
    assert groundingdino.load(copy).revision == package.revision
    with (tmp_path / groundingdino.BERT_FOLDER / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("\nmore")
    assert groundingdino.load(copy).revision != package.revision


def refused(place: Path) -> str:
    """The one line with which a checkpoint is refused."""
    with pytest.raises(BadInput) as error:
        groundingdino.load(place)
    return str(error.value)


def test_a_missing_checkpoint_names_file_and_page(tmp_path: Path) -> None:
    message = refused(tmp_path / "groundingdino_swint_ogc.pth")
    assert f"{tmp_path}/groundingdino_swint_ogc.pth: does not exist" in message
    assert groundingdino.PAGE in message


@pytest.mark.parametrize("missing", ["config.json", "vocab.txt"])
def test_a_missing_file_of_bert_names_file_and_page(place: Path, tmp_path: Path, missing: str) -> None:
    copy = copied(place, tmp_path)
    (tmp_path / groundingdino.BERT_FOLDER / missing).unlink()
    message = refused(copy)
    assert f"{groundingdino.BERT_FOLDER}/{missing}: does not exist" in message
    assert groundingdino.BERT_PAGE in message


def test_settings_are_named_where_they_are_missing(place: Path, tmp_path: Path) -> None:
    copy = copied(place, tmp_path)
    copy.with_suffix(".py").unlink()
    assert "put its config there as tiny.py" in refused(copy)


def test_settings_are_read_and_never_run(place: Path, tmp_path: Path) -> None:
    copy = copied(place, tmp_path)
    with copy.with_suffix(".py").open("a") as settings:
        settings.write(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "has more than plain settings in line" in refused(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("num_queries = 20", "num_queries = 'many'", "has num_queries = 'many', expected a int"),
        ("backbone = 'swin_T_224_1k'", "backbone = 'resnet50'", "has backbone 'resnet50'"),
        ("enc_layers = 2", "enc_layers = 3", "is no GroundingDINO of these settings"),
        ("hidden_dim = 256", "hidden_dim = 250", "make no model"),
        ("nheads = 8", "nheads = (", "cannot be read"),
    ],
)
def test_settings_that_do_not_fit_are_refused(place: Path, tmp_path: Path, old: str, new: str, fault: str) -> None:
    copy = copied(place, tmp_path)
    text = copy.with_suffix(".py").read_text()
    assert old in text
    copy.with_suffix(".py").write_text(text.replace(old, new))
    assert fault in refused(copy)


@pytest.mark.parametrize("file", ["GroundingDINO_SwinT_OGC.py", "GroundingDINO_SwinB_cfg.py"])
def test_the_published_settings_are_known_by_the_checkpoints_name(file: str, tmp_path: Path) -> None:
    (name,) = (name for name, known in groundingdino.PUBLISHED.items() if known == file)
    settings = groundingdino.model_settings(tmp_path / f"{name}.pth", groundingdino.Weights({}, {}))
    assert settings == groundingdino.published_settings(file)
    assert settings["num_queries"] == 900


class Evil:
    """What a pickle can hold: something that acts when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_pickle_that_holds_more_than_tensors_is_refused_unrun(place: Path, tmp_path: Path, suffix: str) -> None:
    copy = copied(place, tmp_path).with_suffix(suffix)
    copy.unlink(missing_ok=True)
    torch.save({"model": {"a": torch.zeros(1)}, "more": Evil(tmp_path / "ran")}, copy)
    for message in (refused(copy), convert_fault(copy, tmp_path / "out.safetensors")):
        assert f"{copy}: is a pickle that holds more than tensors" in message
    for protocol in range(5):
        copy.write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol))
        assert "holds more than tensors" in refused(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is no whole checkpoint"),
        (b"<html>not found</html>", "is no whole checkpoint"),
        (b"PK\x03\x04" + bytes(200), "is no whole checkpoint"),
        ({"model": {}}, "holds no tensor"),
        ({"model": {"a": 3}}, "holds more than tensors: 'a' is a int"),
        ([torch.zeros(1)], "holds a list, no named tensors"),
        ({"model": {"a": torch.zeros(1)}}, "is no GroundingDINO of these settings"),
    ],
)
def test_a_broken_checkpoint_is_refused(place: Path, tmp_path: Path, content: Any, fault: str) -> None:
    copy = copied(place, tmp_path)
    copy.unlink()
    if isinstance(content, bytes):
        copy.write_bytes(content)
    else:
        torch.save(content, copy)
    assert fault in refused(copy)


def test_half_a_checkpoint_is_refused(place: Path, tmp_path: Path) -> None:
    copy = copied(place, tmp_path)
    copy.unlink()
    copy.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    assert "is no whole checkpoint" in refused(copy)


# --- convert


def convert_fault(source: Path, out: Path, to: str = "safetensors") -> str:
    with pytest.raises(BadInput) as error:
        convert(source, out, to)
    assert not out.exists()
    return str(error.value)


def test_a_converted_checkpoint_answers_as_before(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny.safetensors"
    with pytest.raises(SystemExit) as done:
        main(["convert", str(place), str(out), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert done.value.code == 0
    assert facts["architecture"] == "groundingdino"
    written, before = read_weights(out), read_weights(place)
    assert written.metadata["source_sha256"] == facts["source_sha256"]
    assert sorted(written.tensors) == sorted(before.tensors)
    assert all(torch.equal(written.tensors[name], before.tensors[name]) for name in before.tensors)
    write_bert(tmp_path / groundingdino.BERT_FOLDER)
    detector, original = (groundingdino.load(path, settings=ALL) for path in (out, place))
    detector._preprocessing = original._preprocessing = SMALL
    assert detector.detect([picture(64, 64)], [["cat"]]) == original.detect([picture(64, 64)], [["cat"]])


def test_what_a_checkpoint_holds_beside_weights_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "other.pth"
    shared = torch.arange(4.0)
    torch.save({"model": {"module.a": shared, "b": shared[:2]}, "epoch": 3, "optimizer": {"lr": 0.1}}, source)
    with pytest.raises(SystemExit) as done:
        main(["convert", str(source), str(tmp_path / "o.safetensors")])
    text = capsys.readouterr().out
    assert done.value.code == 0
    assert "left_out  epoch, optimizer" in text
    assert "unknown" in text
    tensors = load_file(tmp_path / "o.safetensors")
    assert tensors["a"].tolist() == [0, 1, 2, 3]
    assert tensors["b"].tolist() == [0, 1]


def test_convert_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Evil(tmp_path / "ran"), tmp_path / "evil.pth")
    with pytest.raises(SystemExit) as done:
        main(["convert", str(tmp_path / "evil.pth"), str(tmp_path / "o.safetensors")])
    assert done.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "evil.pth: is a pickle that holds more than tensors" in message


def test_convert_says_what_it_cannot_do(place: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    out = tmp_path / "o.safetensors"
    assert "does not exist" in convert_fault(tmp_path / "none.pth", out)
    assert "does not end in .safetensors" in convert_fault(place, tmp_path / "o.bin")
    assert "is no .pth or .pt file" in convert_fault(place.with_suffix(".py"), out)
    assert "has no folder of transformers" in convert_fault(tmp_path / "a.pth", tmp_path / "new", "transformers")
    with pytest.raises(BadInput, match="is no empty folder"):
        convert(place, tmp_path / "full", "transformers")
    with pytest.raises(BadInput, match="format 'onnx': is not known"):
        convert(place, out, "onnx")


def test_a_backbones_sizes_are_those_of_the_package() -> None:
    """Those of the backbone that is narrow in all other tests, at its full width."""
    from groundingdino.models.GroundingDINO.backbone.swin_transformer import build_swin_transformer

    width, depths, heads, window, image_px = PUBLISHED_SWIN["swin_T_224_1k"]
    with torch.device("meta"):
        swin = build_swin_transformer("swin_T_224_1k", image_px)
    assert (swin.embed_dim, tuple(len(layer.blocks) for layer in swin.layers)) == (width, depths)
    attentions = [layer.blocks[0].attn for layer in swin.layers]
    assert tuple(attention.num_heads for attention in attentions) == heads
    assert {attention.window_size for attention in attentions} == {(window, window)}


def test_every_weight_has_one_place(place: Path) -> None:
    tensors = read_weights(place).tensors
    renamed = to_transformers(tensors)
    joined = sum(name.endswith(("in_proj_weight", "in_proj_bias", "qkv.weight", "qkv.bias")) for name in tensors)
    unused = sum(name.startswith("bert.pooler") or name.endswith("relative_position_index") for name in tensors)
    assert len(renamed) == len(tensors) - unused + 2 * joined
    assert all(any(pattern.match(name) for name in tensors) for pattern, _ in RENAMES if "norm0" not in pattern.pattern)
    with pytest.raises(ValueError, match=r"has no weight 'head\.weight'"):
        to_transformers({"head.weight": torch.zeros(1)})


# --- transformers' folder


def folder_fault(folder: Path) -> str:
    with pytest.raises(BadInput) as error:
        groundingdino_transformers.load(folder)
    return str(error.value)


def test_a_missing_folder_or_file_names_it_and_the_page(folder: Path, tmp_path: Path) -> None:
    assert "does not exist" in folder_fault(tmp_path / "none")
    for name in ("config.json", "model.safetensors"):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / name).unlink()
        message = folder_fault(copy)
        assert f"{name}: does not exist" in message
        assert groundingdino_transformers.PAGE in message


def test_another_model_is_refused_by_its_type(folder: Path, tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    assert "holds a model of type 'bert', expected grounding-dino" in folder_fault(tmp_path / "bert")


def test_weights_that_are_missing_damaged_or_of_other_shapes_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:5000])
    assert "holds no model that can be loaded" in folder_fault(copy)
    (copy / "model.safetensors").write_bytes(whole)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"decoder_layers": 3}))
    assert re.search(r"has not the weights of its GroundingDino\w+: \d+ differ, first \S+layers.2", folder_fault(copy))
    (copy / "config.json").write_text(json.dumps(config | {"num_queries": 21}))
    assert "1 differ, first model.query_position_embeddings.weight" in folder_fault(copy)
    (copy / "config.json").write_text("[")
    assert "config.json: cannot be read" in folder_fault(copy)


def test_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    moved = {number + (number == 1012): token for number, token in SPECIAL.items()}
    shutil.copy(write_bert(tmp_path / "bert", moved) / "vocab.txt", copy)
    assert "has another vocabulary than GroundingDINO's BERT" in folder_fault(copy)


@pytest.mark.parametrize(
    "said", [{"size": {"shortest_edge": "x"}}, {"image_std": [0, 1, 1]}, {"size": 5}, {"image_mean": [1]}]
)
def test_a_preprocessing_that_cannot_be_is_refused(tmp_path: Path, said: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(BadInput, match=r"preprocessor_config\.json: has a size, mean or std that cannot be used"):
        groundingdino_transformers.read_preprocessing(tmp_path / "preprocessor_config.json")


def test_preprocessing_is_read_and_has_published_defaults(folder: Path, tmp_path: Path) -> None:
    assert groundingdino_transformers.read_preprocessing(folder / "preprocessor_config.json") == Preprocessing()
    assert groundingdino_transformers.read_preprocessing(tmp_path / "none.json") == Preprocessing()
    (tmp_path / "p.json").write_text(json.dumps({"size": {"shortest_edge": 64, "longest_edge": 107}}))
    assert groundingdino_transformers.read_preprocessing(tmp_path / "p.json") == SMALL
