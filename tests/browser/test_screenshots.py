"""The pictures of the documentation."""

from __future__ import annotations

from tests.browser.screenshots import FOLDER

LARGEST = 150 * 1024
"""They are kept in the repository, so they must be small."""


def test_the_pictures_are_small() -> None:
    sizes = {picture.name: picture.stat().st_size for picture in FOLDER.glob("*.png")}
    assert "overview.png" in sizes
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}
