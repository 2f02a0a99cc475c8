"""The fonts of the glyph data set: which Debian package holds which family, and which split each family belongs to.

A family (all weights, widths and slants of one design) never spans two splits, and neither do families drawn to look alike:
FreeSans and Liberation Sans follow Helvetica, FreeSerif and Liberation Serif follow Times, so all of them are in `train`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Family:
    """Faces of one typeface: files of `package` whose name starts with `prefix` (and with no entry of `without`)."""

    name: str
    package: str
    prefix: str
    split: str
    without: tuple[str, ...] = ()


# LinBiolinum_K draws keyboard keys and DejaVuMathTeXGyre mathematical symbols: neither is a face of letters.
FAMILIES = (
    Family("DejaVu Sans", "fonts-dejavu-core", "DejaVuSans", "train", ("DejaVuSansMono",)),
    Family("DejaVu Sans Mono", "fonts-dejavu-core", "DejaVuSansMono", "train"),
    Family("DejaVu Serif", "fonts-dejavu-core", "DejaVuSerif", "train"),
    Family("FreeMono", "fonts-freefont-ttf", "FreeMono", "train"),
    Family("FreeSans", "fonts-freefont-ttf", "FreeSans", "train"),
    Family("FreeSerif", "fonts-freefont-ttf", "FreeSerif", "train"),
    Family("Lato", "fonts-lato", "Lato-", "train"),
    Family("Liberation Mono", "fonts-liberation2", "LiberationMono", "train"),
    Family("Liberation Sans", "fonts-liberation2", "LiberationSans", "train"),
    Family("Liberation Serif", "fonts-liberation2", "LiberationSerif", "train"),
    Family("Cantarell", "fonts-cantarell", "Cantarell-", "validation"),
    Family("Linux Biolinum", "fonts-linuxlibertine", "LinBiolinum_", "validation", ("LinBiolinum_K",)),
    Family("Linux Libertine", "fonts-linuxlibertine", "LinLibertine_", "test"),
    Family("Open Sans", "fonts-open-sans", "OpenSans-", "test"),
    Family("Roboto", "fonts-roboto-unhinted", "Roboto", "test"),
)


class MissingFontsError(OSError):
    """Fonts of the glyph data set are not installed; the message names the Debian packages."""


def font_directories() -> list[Path]:
    """Directories searched: those of ``PYQINFER_FONT_PATH`` (separated like ``PATH``) if set, else ``/usr/share/fonts``."""
    configured = os.environ.get("PYQINFER_FONT_PATH")
    return [Path(part) for part in configured.split(os.pathsep) if part] if configured else [Path("/usr/share/fonts")]


def _font_files() -> dict[str, Path]:
    files: dict[str, Path] = {}
    for directory in font_directories():
        for path in directory.rglob("*"):
            if path.suffix in (".ttf", ".otf"):
                files[path.stem] = min(path, files.get(path.stem, path))
    return files


def _faces_of(family: Family, files: dict[str, Path]) -> list[Path]:
    stems = [s for s in files if s.startswith(family.prefix) and not s.startswith(family.without or ("/",))]
    return [files[stem] for stem in sorted(stems)]


def missing_packages() -> list[str]:
    """Debian packages of which some family is not installed, sorted; empty where every split can be rendered."""
    files = _font_files()
    return sorted({family.package for family in FAMILIES if not _faces_of(family, files)})


def faces(split: str) -> list[Path]:
    """Font files of one split, ordered by file name whatever order the file system lists them in.

    Raises:
        ValueError: `split` is not one of ``SPLITS``.
        MissingFontsError: a family has no file; the message says which packages to install.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    missing = missing_packages()
    if missing:
        raise MissingFontsError(
            f"glyphs: no fonts of the Debian packages {', '.join(missing)} in {', '.join(map(str, font_directories()))};"
            f" run `apt-get install {' '.join(missing)}` or set PYQINFER_FONT_PATH to the folders that hold them"
        )
    files = _font_files()
    found = [path for family in FAMILIES if family.split == split for path in _faces_of(family, files)]
    return sorted(found, key=lambda path: path.stem)
