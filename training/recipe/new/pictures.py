"""A recipe for a folder of pictures: its labels, their size, and its text."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from handlers.contract import TensorSpec
from training.data import DataError
from training.recipe.new.columns import MOST_LABELS, Target
from training.recipe.new.files import LEAST, check_names
from training.recipe.new.source import LONGEST, Method, Source
from training.recipe.new.tables import Draft, attributes_of, file_literal, imports_of, preset, target_notes
from training.recipe.pictures import decode, picture_files

LARGEST = 64  # pixels of a side: a small network on a CPU sees no more in reasonable time
LOOKED_AT = 200  # pictures that are opened
ANY = TensorSpec("image", "UINT8", (-1, 1, 1))  # to find out whether one can be read


def draft_pictures(folder: Path, name: str, place: Path) -> Draft:
    """Draft a recipe for pictures, a folder for each class.

    Args:
        place: folder of the recipe.

    Raises:
        DataError: there are no classes, too few pictures, or one cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    folder = folder.resolve()
    labels = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not 2 <= len(labels) <= MOST_LABELS:
        raise DataError(f"{folder} has {len(labels)} folders; each is a class, and there must be 2 to {MOST_LABELS}")
    check_names(labels, folder)
    files = {label: picture_files(folder / label) for label in labels}
    counts = {label: len(paths) for label, paths in files.items()}
    total = sum(counts.values())
    if total < LEAST:
        raise DataError(f"{folder} has {total} pictures; at least {LEAST} are needed")
    (height, width), colours, alike = _look([path for paths in files.values() for path in paths])
    rarest = min(labels, key=lambda label: counts[label])
    target = Target("classification", labels, rarest, counts[rarest] / total)
    about = f"Classification of pictures in {folder.name}".replace('"', "'").replace("\\", "/")
    source = Source(
        name=name,
        about=about,
        task="classification",
        imports=(
            "from training.recipe import Serving",
            "from training.recipe.pictures import PictureFolder, picture_baselines, picture_network",
            *imports_of(target),
        ),
        data=f"PICTURES = PictureFolder(\n    folder={file_literal(folder, place)},\n"
        f"    size=({height}, {width}),  # to which each picture is made\n    colours={colours},\n)",
        labels=labels,
        attributes=('entry_point = "image"', "serving = Serving(batch_size=16)", *attributes_of(target, "")),
        preset=preset(total),
        load=Method("Read the pictures; hold out a fifth, and watch a tenth.", "PICTURES.load(self.labels)"),
        module=Method(
            "Build four convolutions; the scaling of pixels is inside.",
            "picture_network(data, len(self.labels), channels=(16, 32, 64, 64), dropout=0.1)",
        ),
        baselines=Method(
            "Predict by the commonest class, and by a linear model of small pictures.",
            "picture_baselines(data, len(self.labels))",
        ),
    ).render()
    if source.count("\n") > LONGEST:
        raise DataError(f"{folder}: the names of {len(labels)} classes do not fit into a recipe of {LONGEST} lines")
    size = f"{height}×{width} pixels, {'colours' if colours else 'grey'}"
    how = "as they are" if alike else "to which each is made"
    each = ", ".join(f"{label} {count:,}" for label, count in list(counts.items())[:10])
    return Draft(source, (f"{folder.name}: {total:,} pictures ({each})", f"{size}, {how}", *target_notes(target)))


def _look(files: list[Path]) -> tuple[tuple[int, int], bool, bool]:
    """Return the height and width for a network, whether a picture has colours, and whether all have this size."""
    some = files[:: max(1, len(files) // LOOKED_AT)]
    sizes, colours = [], False
    for file in some:
        content = file.read_bytes()
        decode(content, ANY, file)  # the error of one that cannot be read
        with Image.open(io.BytesIO(content)) as image:
            sizes.append((image.height, image.width))
            colours = colours or image.mode not in ("1", "L", "LA", "I;16")
    height, width = np.median(sizes, axis=0)
    scale = min(1.0, LARGEST / max(height, width))
    size = max(8, round(height * scale)), max(8, round(width * scale))
    return size, colours, set(sizes) == {size}
