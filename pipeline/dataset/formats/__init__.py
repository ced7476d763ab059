"""How a sample lies in a tar of the dataset: one module per format, and the formats by name.

A format of its own is a module here that fulfils `protocol.SampleFormat`, and a line in `FORMATS`.
"""

from pipeline.dataset.formats.protocol import EncodedImage, SampleFormat, SampleImages
from pipeline.dataset.formats.webdataset import WebDatasetFormat

FORMATS: dict[str, SampleFormat] = {made.name: made for made in (WebDatasetFormat(),)}

__all__ = ["FORMATS", "EncodedImage", "SampleFormat", "SampleImages"]
