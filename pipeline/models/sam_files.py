"""Where the checkpoints of segment-anything's Sam are, and what is said where one is missing. Nothing is fetched."""

from pathlib import Path

from runtime.specs import SHIPPED
from schemas.errors import BadInput

#: The weights of `sam:tiny` that the project ships.
TINY_WEIGHTS = Path(__file__).resolve().parent / "weights" / "sam_tiny.safetensors"
MAKE_TINY = "make them with `python -m training.segmenter.train`"
DOWNLOAD_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
PUBLISHED_FILES = {
    "vit_h": "sam_vit_h_4b8939.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_b": "sam_vit_b_01ec64.pth",
}
REMEDY = f"give a checkpoint of segment-anything, whole and unchanged; they are on {DOWNLOAD_PAGE}"
SUFFIXES = (".pth", ".pt", ".safetensors")


def checkpoint_path(place: str | None) -> Path:
    """The file that `sam:<place>` means.

    Raises: BadInput where the file is not there, naming it and where it comes from.
    """
    if place is None or place in PUBLISHED_FILES:
        file = PUBLISHED_FILES[place or "vit_b"]
        raise BadInput(
            f"segmenter {'sam:' + place if place else 'sam'!r}",
            "does not say where its weights are, and nothing is downloaded",
            f"download {file} from {DOWNLOAD_PAGE} and write sam:FOLDER/{file}; sam:tiny needs no download",
        )
    path = TINY_WEIGHTS if place == SHIPPED else Path(place)
    if not path.is_file():
        remedy = MAKE_TINY if place == SHIPPED else f"download a checkpoint from {DOWNLOAD_PAGE} and give its path"
        raise BadInput(str(path), "does not exist" if not path.exists() else "is no file", remedy)
    if path.suffix not in SUFFIXES:
        raise BadInput(str(path), f"does not end in {', '.join(SUFFIXES)}", REMEDY)
    return path
