"""The `sam` segmenter: segment-anything's Sam, whose boxes and points of many images go through it together.

`sam:PATH` takes a published `.pth` or a safetensors file, `sam:tiny` the weights that this project trained and ships.
Images are read and resized by threads ahead of the device; one batch of images is on the device at a time.

It does not batch over calls, and it does not take masks as prompts.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from pipeline.models.batches import ShrinkingBatches, out_of_memory
from pipeline.models.devices import choose_device
from pipeline.models.mask_cleaning import without_specks
from pipeline.models.protocols import Prompt, Segment
from pipeline.models.sam_architectures import INSTALL
from pipeline.models.sam_files import checkpoint_path
from pipeline.models.sam_inputs import PreparedImage, PreparedPrompt, prepare_image, prepare_prompt, prompt_tokens
from runtime.images import ImageU8
from runtime.masks import MaskBool
from schemas.errors import BadInput, MissingPackage, OutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models.sam_checkpoint import SamCheckpoint

PACKAGES = ("torch", "torchvision", "safetensors", "segment_anything")
#: Where `batch_size` is "auto": how many images the first batch has; it is halved where they do not fit.
FIRST_BATCH = {"cuda": 32, "cpu": 8}
FIRST_PROMPTS = {"cuda": 256, "cpu": 32}
#: Masks are scaled to the size of their image in groups of at most this many pixels.
SCALED_PIXELS = 64_000_000


@dataclass(frozen=True)
class SamSettings:
    """How a Sam is run. Raises: BadInput for a setting out of its range."""

    device: str = "auto"
    """As torch names it (`cpu`, `cuda`, `cuda:1`); `auto` is the first GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the image encoder, by autocast; `auto` is bf16 on a GPU. Prompts and masks are always computed in fp32."""
    batch_size: int | Literal["auto"] = "auto"
    """Images encoded at a time; halved, and the work goes on, where the memory does not suffice."""
    multimask: Literal["ambiguous", "always", "never"] = "ambiguous"
    """When the best of three masks is taken by predicted IoU, not the single one: as the package documents it, where
    the prompt is ambiguous, that is, a single point without a box."""
    hole_share: float = 0.01
    """Holes smaller than this share of the mask's area are filled; 0 leaves them."""
    island_share: float = 0.01
    """Islands smaller than this share of the mask's area are left out, never the largest; 0 leaves them."""
    cached_images: int = 8
    """Embeddings kept on the device, so that a source is encoded once for its candidates, in other calls too."""
    workers: int = 4
    """Threads that read and resize images and clean masks."""
    max_answer_bytes: int = 4 * 1024**3
    """A call whose masks would take more memory is refused."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "bf16"):
            raise BadInput(f"precision {self.precision!r}", "is not known", "choose one of auto, fp32, bf16")
        if self.multimask not in ("ambiguous", "always", "never"):
            raise BadInput(f"multimask {self.multimask!r}", "is not known", "choose one of ambiguous, always, never")
        if self.batch_size != "auto" and not (isinstance(self.batch_size, int) and self.batch_size > 0):
            raise BadInput(f"batch size {self.batch_size!r}", "is no number of images", "give 1 or more, or auto")
        if not (0 <= self.hole_share < 1 and 0 <= self.island_share < 1):
            raise BadInput("hole_share, island_share", "are shares of a mask's area", "give them from 0 to below 1")
        if self.workers < 1 or self.cached_images < 0:
            raise BadInput("workers, cached_images", "are out of range", "give at least 1 worker and 0 cached images")


DEFAULT = SamSettings()


class SamSegmenter:
    """A `pipeline.models.protocols.PromptSegmenter` on a Sam. Not to be called from two threads at once.

    The same images and prompts in the same calls give the same masks; cut into other batches, a mask can differ in
    pixels whose logit is within rounding of zero.
    """

    def __init__(self, checkpoint: "SamCheckpoint", settings: SamSettings = DEFAULT) -> None:
        require_packages()
        from pipeline.models.sam_forward import ImageEncoder

        self.settings = settings
        self.device = choose_device(settings.device, "segmenter sam")
        self.sam = checkpoint.sam.to(self.device)
        self.bf16 = settings.precision == "bf16" or (settings.precision == "auto" and self.device.type == "cuda")
        self.name = f"sam:{checkpoint.architecture}"
        self.revision = (
            f"sha256:{checkpoint.sha256[:16]} {'bf16' if self.bf16 else 'fp32'} multimask={settings.multimask} "
            f"hole={settings.hole_share:g} island={settings.island_share:g}"
        )
        self._encoder = ImageEncoder(self.sam.image_encoder)
        #: On the CPU an image is encoded by itself: its embedding shall not depend on which others were known already.
        self._alone = self.device.type == "cpu"
        first = FIRST_BATCH.get(self.device.type, 8) if settings.batch_size == "auto" else settings.batch_size
        self._image_batches = ShrinkingBatches(first, self._title())
        self._prompt_batches = ShrinkingBatches(FIRST_PROMPTS.get(self.device.type, 32), self._title())
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def batch_size(self) -> int:
        """Images encoded at a time, as it stands after what memory allowed."""
        return self._image_batches.size

    def segment(self, images: Sequence[ImageU8], prompts: Sequence[Sequence[Prompt]]) -> list[list[Segment]]:
        """For each image (HWC uint8 RGB) one segment per prompt, in the order of its prompts.

        `images` may be a sequence that decodes an image when it is asked for it: threads ask, ahead of the device.
        The confidence is the predicted IoU, clipped to 0..1; an empty mask has 0.
        Raises: BadImage for an image that is none, or too narrow to be resized; BadInput for a prompt that is none, a
        model that gives NaN, or masks beyond `max_answer_bytes`; OutOfMemory where one image does not fit.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images and prompts for {len(prompts)}")
        found: list[list[Future[Segment]]] = [[] for _ in prompts]
        pool = ThreadPoolExecutor(self.settings.workers)
        try:
            bytes_asked = 0
            for batch in self._batches(images, [index for index, asked in enumerate(prompts) if asked], pool):
                bytes_asked += sum(len(prompts[one.index]) * one.image_hw[0] * one.image_hw[1] for one in batch)
                self._check_answer_size(bytes_asked)
                self._segment_batch(batch, prompts, found, pool)
            return [[future.result() for future in row] for row in found]
        except OutOfMemory:
            raise
        except MemoryError:
            raise out_of_memory(self._title()) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _batches(
        self, images: Sequence[ImageU8], wanted: Sequence[int], pool: ThreadPoolExecutor
    ) -> Iterator[list[PreparedImage]]:
        """Prepared images in batches, the next batch being prepared while one is worked on."""
        side, pinned = self.sam.image_encoder.img_size, self.device.type == "cuda"
        ahead: deque[Future[PreparedImage]] = deque()
        rest = deque(wanted)
        while rest or ahead:
            while rest and len(ahead) < 2 * self.batch_size:
                ahead.append(pool.submit(prepare_image, images, rest.popleft(), side, pinned))
            yield [ahead.popleft().result() for _ in range(min(self.batch_size, len(ahead)))]

    def _segment_batch(
        self,
        batch: Sequence[PreparedImage],
        prompts: Sequence[Sequence[Prompt]],
        found: list[list[Future[Segment]]],
        pool: ThreadPoolExecutor,
    ) -> None:
        """Puts the segments of a batch of images into `found`, still being cleaned by threads."""
        slots = {sha256: slot for slot, sha256 in enumerate(dict.fromkeys(one.sha256 for one in batch))}
        asked = [
            prepare_prompt(one, slots[one.sha256], number, prompt)
            for one in batch
            for number, prompt in enumerate(prompts[one.index])
        ]
        embeddings = self._embed(batch)
        groups: dict[tuple[bool, int], list[PreparedPrompt]] = {}
        for one in asked:  # prompts of one call have the same number of tokens: a padding token would change the mask
            groups.setdefault((one.box is None, len(one.points)), []).append(one)
        segments: dict[tuple[int, int], Future[Segment]] = {}
        for group in groups.values():
            done = self._prompt_batches.run(group, lambda some: self._decode(some, embeddings, pool))
            segments |= {(one.image.index, one.number): future for one, future in zip(group, done, strict=True)}
        for one in asked:
            found[one.image.index].append(segments[one.image.index, one.number])

    def _embed(self, batch: Sequence[PreparedImage]) -> "Tensor":
        """(n, C, g, g): the embeddings of the n different images of a batch, in their order."""
        import torch

        different = {one.sha256: one for one in batch}
        known = {sha256: self._embeddings[sha256] for sha256 in different if sha256 in self._embeddings}
        fresh = [one for sha256, one in different.items() if sha256 not in known]
        made = self._image_batches.run(fresh, self._encode)
        known |= {one.sha256: embedding for one, embedding in zip(fresh, made, strict=True)}
        for sha256 in list(different)[-self.settings.cached_images :] if self.settings.cached_images else []:
            self._embeddings[sha256] = known[sha256].clone()  # a view would keep its whole batch
            self._embeddings.move_to_end(sha256)
        while len(self._embeddings) > self.settings.cached_images:
            self._embeddings.popitem(last=False)
        return torch.stack([known[sha256] for sha256 in different])

    def _encode(self, batch: Sequence[PreparedImage]) -> "list[Tensor]":
        import torch

        from pipeline.models.sam_forward import normalised

        side = self.sam.image_encoder.img_size
        canvas = torch.empty((len(batch), 3, side, side), dtype=torch.uint8, device=self.device)
        for place, one in zip(canvas, batch, strict=True):
            place.copy_(one.canvas, non_blocking=True)
        groups = [slice(n, n + 1) for n in range(len(batch))] if self._alone else [slice(None)]
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            embeddings: list[Tensor] = [
                self._encoder(normalised(self.sam, canvas[group], [one.input_hw for one in batch[group]]))
                for group in groups
            ]
        return list(torch.cat(embeddings).float())

    def _decode(
        self, group: Sequence[PreparedPrompt], embeddings: "Tensor", pool: ThreadPoolExecutor
    ) -> list[Future[Segment]]:
        """The segments of prompts with the same number of tokens."""
        import torch

        from pipeline.models.sam_forward import decode

        with torch.no_grad():
            image_of = torch.tensor([one.slot for one in group], device=self.device)
            logits, iou = decode(self.sam, embeddings, image_of, prompt_tokens(self.sam, group, self.device))
            ambiguous = group[0].box is None and len(group[0].points) == 1
            if self.settings.multimask == "always" or (self.settings.multimask == "ambiguous" and ambiguous):
                best = 1 + iou[:, 1:].argmax(dim=1)
            else:
                best = torch.zeros_like(image_of)
            rows = torch.arange(len(group), device=self.device)
            logits, iou = logits[rows, best], iou[rows, best]  # (P, m, m), (P,)
            finite = torch.isfinite(logits).flatten(1).all(dim=1) & torch.isfinite(iou)
            self._check_finite(group, finite.tolist())
            masks = self._masks(group, logits)
        settings = self.settings
        return [
            pool.submit(_finish, mask, confidence, settings.hole_share, settings.island_share)
            for mask, confidence in zip(masks, iou.tolist(), strict=True)
        ]

    def _masks(self, group: Sequence[PreparedPrompt], logits: "Tensor") -> list[MaskBool]:
        """The masks (H, W) at the size of their images."""
        from pipeline.models.sam_forward import full_size, to_host

        masks: list[MaskBool] = []
        while len(masks) < len(group):
            first = group[len(masks)].image
            height, width = first.image_hw
            most = max(1, SCALED_PIXELS // max(height * width, self.sam.image_encoder.img_size**2))
            some = list(takewhile(lambda one: one.image is first, group[len(masks) : len(masks) + most]))  # noqa: B023
            part = logits[len(masks) : len(masks) + len(some)]
            masks.extend(to_host(full_size(self.sam, part, first.input_hw, first.image_hw)).numpy())
        return masks

    def _check_finite(self, group: Sequence[PreparedPrompt], finite: Sequence[bool]) -> None:
        for one, is_finite in zip(group, finite, strict=True):
            if not is_finite:
                raise BadInput(
                    self._title(),
                    f"gave no number for prompt {one.number} of image {one.image.index}",
                    "its checkpoint is damaged, or bf16 is not enough for it: try precision fp32",
                )

    def _title(self) -> str:
        return f"segmenter {self.name}"

    def _check_answer_size(self, bytes_asked: int) -> None:
        if bytes_asked > self.settings.max_answer_bytes:
            raise BadInput(
                "the masks that are asked for",
                f"would take more than {self.settings.max_answer_bytes / 1024**3:.3g} GiB",
                "give fewer images or prompts in one call, or smaller images",
            )


def load_sam(place: str | None, settings: SamSettings = DEFAULT) -> SamSegmenter:
    """The segmenter that `sam:<place>` means.

    Raises: MissingPackage; BadInput for a file that is not there, cannot be read, or is no Sam.
    """
    require_packages()
    from pipeline.models.sam_checkpoint import read_checkpoint

    return SamSegmenter(read_checkpoint(checkpoint_path(place)), settings)


def require_packages() -> None:
    """Raises: MissingPackage, with the install line, where one of the packages is not installed."""
    for name in PACKAGES:
        if find_spec(name) is None:
            raise MissingPackage("segmenter sam", f"needs the package {name.replace('_', '-')}", INSTALL)


def _finish(mask: MaskBool, confidence: float, hole_share: float, island_share: float) -> Segment:
    cleaned = without_specks(mask, hole_share, island_share)
    return Segment(cleaned, min(max(confidence, 0.0), 1.0) if cleaned.any() else 0.0)
