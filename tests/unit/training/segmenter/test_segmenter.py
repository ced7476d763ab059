"""The training of `sam:tiny`, and the weights that are shipped."""

import json
import math
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.requests.scenes import render_scene
from runtime.masks import mask_box
from schemas.errors import BadInput, NewerSchema, RegionwiseError, RunConflict
from tests.cases.segmenter_cases import QUICK, SMALL
from training.segmenter import data
from training.segmenter.batches import box_prompt, draw_batch, point_prompt
from training.segmenter.checkpoint import (
    Progress,
    load_weights,
    pool_in,
    read_metadata,
    restore_state,
    write_state,
    write_weights,
)
from training.segmenter.config import TINY, SegmenterConfig
from training.segmenter.data import KINDS, Pool, make_example, make_pool
from training.segmenter.evaluate import (
    GOAL,
    WEIGHTS,
    ObjectResult,
    grabcut,
    held_out_examples,
    mask_iou,
    summary,
)
from training.segmenter.model import decode, new_sam, objective, parameter_groups, sparse_prompts
from training.segmenter.train import main


def test_the_batched_decode_is_the_packages_own_of_each_picture() -> None:
    sam = new_sam(SMALL, seed=3).eval()
    with torch.no_grad():
        embeddings = sam.image_encoder(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
        boxes = torch.tensor([[4.0, 5, 30, 40], [10, 10, 60, 20], [0, 0, 64, 64], [8, 30, 20, 50], [1, 2, 9, 9]])
        boxes = torch.cat([boxes, torch.tensor([[33.0, 21, 33, 21]])])
        sparse = sparse_prompts(sam, boxes, torch.tensor([False] * 5 + [True]))
        masks, rated = decode(sam, embeddings, sparse)
        for picture in range(3):
            own = slice(2 * picture, 2 * picture + 2)
            dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(2, -1, 8, 8)
            wanted = sam.mask_decoder.predict_masks(
                embeddings[picture : picture + 1], sam.prompt_encoder.get_dense_pe(), sparse[own], dense
            )
            torch.testing.assert_close(masks[own], wanted[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(rated[own], wanted[1], atol=1e-5, rtol=1e-4)


def test_a_prompt_is_embedded_as_the_package_embeds_it() -> None:
    encoder = (sam := new_sam(SMALL, seed=3)).prompt_encoder
    boxes = torch.tensor([[4.0, 5, 30, 40], [33.0, 21, 33, 21]])
    box, point = sparse_prompts(sam, boxes, torch.tensor([False, True]))
    torch.testing.assert_close(box, encoder(points=None, boxes=boxes[:1], masks=None)[0][0])
    alone = (torch.tensor([[[33.0, 21.0]]]), torch.ones(1, 1))
    torch.testing.assert_close(point, encoder(points=alone, boxes=None, masks=None)[0][0])


def test_the_loss_of_a_case_worked_by_hand() -> None:
    """Four masks of 2 x 2 on a target of one column: undecided, right, inverted and full."""
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    sure = 20.0
    right = sure * (2 * target[0] - 1)
    masks = torch.stack([torch.zeros(2, 2), right, -right, torch.full((2, 2), sure)])[None]
    rated = torch.tensor([[0.0, 0.5, 0.0, 0.5]])
    parts = objective(masks, rated, target, dice_weight=1.0)
    # by the box's two cells: log 2 for each of four cells; nothing; `sure` for four cells; `sure` for two
    cross = torch.tensor([2 * math.log(2), 0.0, 2 * sure, sure])
    # 1 - (2 common + 1) / (both + 1)
    dice = torch.tensor([1 - 3 / 5, 0.0, 1 - 1 / 5, 1 - 5 / 7])
    each = cross + dice
    shape = each[0] + 0.8 * each[1] + 0.2 * each[1:].mean()
    # IoU: undecided is empty (0), 1, 0, 1/2
    iou_error = torch.tensor([0.0, 0.5, 0.0, 0.0]).square().mean()
    assert parts.cross_entropy.item() == pytest.approx(cross.mean().item(), abs=1e-4)
    assert parts.dice.item() == pytest.approx(dice.mean().item(), abs=1e-4)
    assert parts.iou_error.item() == pytest.approx(iou_error.item(), abs=1e-6)
    assert parts.total.item() == pytest.approx((shape + 0.5 * iou_error).item(), abs=1e-3)
    assert parts.iou.item() == 1.0, "the mask rated best is the right one"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a step that changed nothing."""
    folder, progress = tmp_path_factory.mktemp("checkpoint"), new_progress()
    for group in progress.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    progress.optimizer.step()
    progress.step, progress.lengths = 1, {"0": QUICK.steps}
    write_state(folder, QUICK, progress)
    return folder


def new_progress() -> Progress:
    sam = new_sam(SMALL, 0)
    return Progress(sam, torch.optim.AdamW(parameter_groups(sam, QUICK.weight_decay)))


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("moment/3/exp_avg", None, r"lacks moments .*: moment/3/exp_avg is None, expected \("),
        ("moment/3/exp_avg", torch.zeros(99), r"moment/3/exp_avg is \(99,\), expected \("),
        ("moment/3/step", torch.tensor(torch.nan), "holds numbers in moment/3/step that are not finite"),
        (
            "weight/mask_decoder.iou_token.weight",
            None,
            r"another network: weight/mask_decoder\.iou_token\.weight is None",
        ),
        ("average/mask_decoder.iou_token.weight", None, r"another network: average/mask_decoder\.iou_token"),
        (
            "weight/mask_decoder.iou_token.weight",
            torch.full((1, SMALL.prompt_dim), torch.inf),
            "numbers in weight/mask_decoder",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(
    checkpoint: Path, tmp_path: Path, name: str, value: torch.Tensor | None, fault: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "training")
    assert restore_state(folder, QUICK, new_progress())
    path = folder / "state-000001.safetensors"
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path)
    with pytest.raises(BadInput, match=rf"state-000001\.safetensors: .*{fault}.*; remove state\.json beside it"):
        restore_state(folder, QUICK, new_progress())


@pytest.mark.parametrize(
    ("change", "error", "fault"),
    [
        ({"schema": "segmenter-training/2"}, NewerSchema, "this version reads up to segmenter-training/1"),
        ({"lengths": {"0": "4"}}, BadInput, "field 0 is str, expected int; remove it and train anew"),
        ({"config": QUICK.model_dump() | {"gone": 1}}, RunConflict, "was trained with gone = 1, now it is None"),
    ],
)
def test_a_state_that_does_not_fit_is_one_clear_line(
    checkpoint: Path, tmp_path: Path, change: dict[str, object], error: type[RegionwiseError], fault: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "training")
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(error, match=rf"state\.json: .*{fault}"):
        restore_state(folder, QUICK, new_progress())


def test_damaged_pictures_and_a_full_disk_are_one_clear_line(tmp_path: Path) -> None:
    pool_in(tmp_path, QUICK)
    (path,) = tmp_path.glob("pool-*.npz")
    for content in (b"", b"nothing", path.read_bytes()[:-500]):
        path.write_bytes(content)
        with pytest.raises(
            BadInput, match=r"pool-.*\.npz: holds no training pictures: .*; remove it: it is made again"
        ):
            pool_in(tmp_path, QUICK)
    (tmp_path / "weights" / "in its way").mkdir(parents=True)
    with pytest.raises(RegionwiseError, match=r"weights: is a folder, where a file is to be written; move it away"):
        write_weights(tmp_path / "weights", {}, TINY, {})


def test_a_wrong_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting in ("steps", "steps=none", "speed=3", "steps=0"):
        assert main(["--out", str(tmp_path), "--set", setting]) == 2
        assert capsys.readouterr().err.startswith("regionwise: --set")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_the_same_each_time_and_others_by_seed(kind: data.Kind) -> None:
    one, again = (make_example(kind, 5, 2, held_out=False) for _ in range(2))
    assert (one.image_hwc_u8 == again.image_hwc_u8).all()
    assert (one.labels_hw == again.labels_hw).all()
    assert (one.image_hwc_u8 != make_example(kind, 6, 2, held_out=False).image_hwc_u8).any()
    assert (one.image_hwc_u8 != make_example(kind, 5, 2, held_out=True).image_hwc_u8).any()


def test_masks_of_scenes_are_those_of_the_scene() -> None:
    scene = render_scene(5, 2, data.SIZE_PX, textures=data.TRAINING_TEXTURES)
    example = make_example("scene", 5, 2, held_out=False)
    assert (example.image_hwc_u8 == scene.image_hwc_u8).all()
    assert len(masks := example.masks()) == len(scene.objects) >= 2
    assert all((mask == thing.mask_hw).all() for mask, thing in zip(masks, scene.objects, strict=True))


def test_a_pasted_thing_stands_out_where_its_mask_ends() -> None:
    import cv2

    seen = 0
    for index in range(12):
        example = make_example("pasted", 5, index, held_out=False)
        lab = cv2.cvtColor(example.image_hwc_u8.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        for mask in example.masks():
            wide = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            ring = wide & (example.labels_hw == 0)
            if ring.sum() > 100:
                seen += 1
                assert np.linalg.norm(lab[mask].mean(axis=0) - lab[ring].mean(axis=0)) > 6
    assert seen >= 20


def test_training_sees_no_held_out_texture_photograph_or_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not set(data.TRAINING_TEXTURES) & set(data.HELD_OUT_TEXTURES)
    assert not set(data.TRAINING_PHOTOS) & set(data.HELD_OUT_PHOTOS)
    stem = {name: name.rpartition("/")[2].partition(".")[0] for name in data.TRAINING_PHOTOS + data.HELD_OUT_PHOTOS}
    for texture in data.HELD_OUT_TEXTURES:
        assert not any(stem[name].startswith(texture) for name in data.TRAINING_PHOTOS)
    for texture in data.TRAINING_TEXTURES:
        assert not any(stem[name].startswith(texture) for name in data.HELD_OUT_PHOTOS)
    assert SegmenterConfig().seed != data.HELD_OUT_SEED

    opened: set[str] = set()
    original = data.load_photo
    monkeypatch.setattr(data, "load_photo", lambda name: (opened.add(name), original(name))[1])
    drawn: set[tuple[str, ...]] = set()
    scene = render_scene(1, 0, data.SIZE_PX)  # stands for all: it is drawn, and opens no photograph
    monkeypatch.setattr(data, "render_scene", lambda *_, textures: (drawn.add(textures), scene)[1])
    make_pool(9, 40)
    assert opened <= set(data.TRAINING_PHOTOS)
    assert len(opened) > 8
    assert drawn == {data.TRAINING_TEXTURES}
    opened.clear()
    drawn.clear()
    list(held_out_examples(12))
    assert drawn == {data.HELD_OUT_TEXTURES}
    assert opened <= set(data.HELD_OUT_PHOTOS)
    assert len(opened) > 4
    assert render_scene(data.HELD_OUT_SEED, 0, 32, textures=data.HELD_OUT_TEXTURES).texture in data.HELD_OUT_TEXTURES


def test_a_missing_photograph_is_named() -> None:
    with pytest.raises(BadInput, match=r"skimage:data/nowhere\.png.*install"):
        data.load_photo("skimage:data/nowhere.png")


def test_a_batch_keeps_pictures_prompts_and_targets_together() -> None:
    """Pictures that are white where there is a thing and black elsewhere stay so, however they are turned or cut."""
    pool = make_pool(1, 8)
    painted = Pool(np.repeat(np.where(pool.labels_nhw > 0, 200, 10).astype(np.uint8)[..., None], 3, 3), pool.labels_nhw)
    config = SegmenterConfig(pool=8, batch_images=8, prompts=3, padded_share=0.5)
    batch = draw_batch(painted, config, TINY, step=0)
    assert batch.images.shape == (8, 3, 192, 192)
    assert batch.targets.shape == (24, 96, 96)
    cells = torch.nn.functional.avg_pool2d(batch.images, 2).repeat_interleave(3, dim=0).mean(dim=1)
    for prompt in range(24):
        target, box = batch.targets[prompt], batch.boxes[prompt] / 2  # in cells
        assert cells[prompt][target == 1].min() > cells[prompt][target == 1].median() - 1.0
        assert cells[prompt][target == 1].median() > 0.3
        ys, xs = torch.nonzero(target >= 0.5, as_tuple=True)
        if batch.is_point[prompt]:
            assert target[int(box[1]), int(box[0])] > 0.5
        else:
            tight = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            allowed = 0.04 * max(tight[2] - tight[0], tight[3] - tight[1]) + 2.5
            assert (box - tight).abs().max() < allowed
    assert 0 < batch.is_point.sum() < 24
    again, other = (draw_batch(painted, config, TINY, step) for step in (0, 1))
    assert torch.equal(batch.images, again.images)
    assert not torch.equal(batch.boxes, other.boxes)


def test_prompts_are_of_the_thing() -> None:
    mask = make_example("scene", 5, 2, held_out=False).masks()[0]
    rng = np.random.default_rng(0)
    assert box_prompt(mask, rng, exact_share=1.0).tolist() == list(mask_box(mask) or ())
    assert box_prompt(mask, rng, exact_share=0.0).tolist() != list(mask_box(mask) or ())
    x, y, *_ = point_prompt(mask, rng)
    assert mask[int(y), int(x)]


def test_weights_of_another_make_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(BadInput, match=r"does not exist; train it"):
        load_weights(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="is no safetensors file"):
        load_weights(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="does not name its architecture"):
        load_weights(path)
    write_weights(path, new_sam(SMALL, 0).state_dict(), TINY, {})
    with pytest.raises(BadInput, match="holds no weights of this training"):
        load_weights(path)
    tensors = {name: tensor / 0 for name, tensor in new_sam(TINY, 0).state_dict().items()}
    write_weights(path, tensors, TINY, {})
    with pytest.raises(BadInput, match=r"holds numbers in .* that are not finite; remove it and train anew"):
        load_weights(path)


def test_grabcut_finds_a_plain_thing_and_an_iou_is_counted() -> None:
    truth = np.zeros((64, 64), dtype=np.bool_)
    truth[20:40, 16:36] = True
    image = np.where(truth[..., None], (220, 30, 30), (20, 60, 200)).astype(np.uint8)
    assert mask_iou(grabcut(image, np.array([12.0, 16, 40, 44])), truth) > 0.95
    assert mask_iou(truth, np.roll(truth, 10, axis=0)) == pytest.approx(200 / 600)
    assert mask_iou(~truth & truth, ~truth & truth) == 1.0


def test_the_shipped_metrics_are_those_of_the_shipped_weights() -> None:
    metrics = json.loads(WEIGHTS.with_suffix(".json").read_bytes())
    assert metrics["weights_sha256"] == sha256(WEIGHTS.read_bytes()).hexdigest()
    assert metrics["made"] == read_metadata(WEIGHTS)
    assert WEIGHTS.stat().st_size <= 8_000_000
    first = metrics["rows"][0]
    assert metrics["reached"] == first["mean_iou"]["sam:tiny"]["value"] >= GOAL
    assert (first["data"], first["size"]) == ("all", "all")


def test_a_summary_is_of_things_by_kind_and_size() -> None:
    def case(kind: data.Kind, picture: int, side_px: int, iou: float) -> ObjectResult:
        truth = np.zeros((256, 256), dtype=np.bool_)
        truth[:side_px, :side_px] = True
        return ObjectResult(kind, picture, np.zeros((256, 256, 3), np.uint8), truth, truth, {"sam:tiny": iou})

    cases = [case("scene", 0, 31, 0.2), case("scene", 0, 32, 0.4), case("pasted", 1, 96, 0.9)]
    rows = {(row["data"], row["size"]): row for row in summary(cases)}
    assert rows["all", "all"]["mean_iou"]["sam:tiny"]["value"] == pytest.approx(0.5)
    assert {key for key in rows if key[0] == "all"} == {("all", size) for size in ("all", "small", "medium", "large")}
    assert rows["scene", "medium"]["mean_iou"]["sam:tiny"]["value"] == pytest.approx(0.4)
    assert rows["scene", "all"]["things"] == 2
    assert rows["scene", "all"]["pictures"] == 1
