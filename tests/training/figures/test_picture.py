"""Pictures are written whole, and the same drawing gives the same bytes."""

from pathlib import Path

from PIL import Image

from training.figures.picture import picture


def test_a_picture_has_its_size_and_the_same_drawing_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name / "picture.png" for name in ("first", "second")]
    for path in paths:
        with picture(path, 4, 2, dpi=50) as figure:
            figure.subplots().plot([1, 2], [3, 4])
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    with Image.open(paths[0]) as image:
        assert image.size == (200, 100)
