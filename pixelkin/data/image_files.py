"""The files that a data set reads its stills from, for what copies or refers to them."""

from pathlib import Path
from typing import Any

from pixelkin.data.class_maps.ccp import CcpSemantic
from pixelkin.data.instances.labelme import LabelMe, read_labelme
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.reading import IMAGE_SUFFIXES, images_by_stem
from pixelkin.data.source import Source, Subset


def image_file(source: Source[Any], index: int) -> Path | None:
    """The image file of a still; None where it is no such file, as slices of volumes are not.

    What the loader makes of the file is `source[index].image`. A source that was made of another
    may say it itself, by a method of this name.
    """
    own = getattr(source, "image_file", None)
    if own is not None:
        told: Path | None = own(index)
        return told
    if isinstance(source, Subset):
        return image_file(source._source, source._indices[index])
    name = source.names[index]
    if isinstance(source, LabelMe):
        return _labelme_image(source, index)
    if isinstance(source, CcpSemantic):
        return source._photos[name]
    if isinstance(source, Nuclei):
        return next(iter(images_by_stem(source._root / name / "images").values()))
    files = getattr(source, "_files", None)
    if isinstance(files, dict):
        found = files[name][0]
    elif isinstance(files, list):
        found = files[index]
    else:
        return None
    return found if found.suffix.lower() in IMAGE_SUFFIXES else None


def _labelme_image(source: LabelMe, index: int) -> Path | None:
    path = source._files[index]
    listed = str(read_labelme(path).get("imagePath") or "").replace("\\", "/")
    folder = source._images or path.parent
    candidates = [folder / listed, folder / Path(listed).name] if listed else []
    candidates += [folder / f"{path.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
    return next((file for file in candidates if file.is_file()), None)
