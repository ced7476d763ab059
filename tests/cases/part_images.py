"""The images of a part in memory, so that a test of a stage needs no run folder."""

import io
from pathlib import Path

from pipeline.run.image_store import ImageTar
from pipeline.run.stage import PartImages


class InMemory(PartImages):
    """Keeps what is added and gives it back."""

    def __init__(self) -> None:
        super().__init__(Path(), ImageTar(io.BytesIO(), "images/sources/part-00000.tar", "png"))
        object.__setattr__(self, "kept", {})

    def add(self, image_hwc_u8):  # type: ignore[no-untyped-def]
        stored = super().add(image_hwc_u8)
        self.kept[stored.ref.sha256] = stored.pixels
        return stored

    def read(self, ref):  # type: ignore[no-untyped-def]
        return self.kept[ref.sha256]
