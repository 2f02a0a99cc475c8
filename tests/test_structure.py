"""docs/architecture.md shows the rooms as CMake and the import rules have them, and no folder of csrc/ breaks its rules."""

import check_includes
from structure import PAGE, TOP, cpp_picture, with_pictures


def test_the_page_shows_the_rooms_as_they_are() -> None:
    page = PAGE.read_text()
    assert page == with_pictures(page), "run `python tests/structure.py --write`"


def test_the_picture_has_every_folder_and_no_arrow_twice() -> None:
    lines = cpp_picture().splitlines()[1:]
    assert len(set(lines)) == len(lines)
    drawn = {line.split("_[")[0].strip() for line in lines if "_[" in line}
    assert drawn == set(check_includes.folder_order()) | set(TOP)


def test_includes_agree_with_the_rules() -> None:
    assert check_includes.main() == 0
