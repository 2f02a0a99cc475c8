"""Files that are slow to make, kept until something they were made from changes."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path


def installed(package: str) -> str:
    """The installed version of a distribution. Raises PackageNotFoundError."""
    return metadata.version(package)


def digest(files: Iterable[Path]) -> str:
    """Hash of the files' contents, in the order given."""
    content = hashlib.sha256()
    for file in files:
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


def artifact(root: Path, name: str, made_from: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """The folder ``root/name-<key>``, filled by ``make(folder)`` unless it exists; the key covers ``made_from``.

    ``make`` fills a temporary folder that is renamed when it is complete, so an interrupted run leaves nothing half made. Folders of the
    same name with another key are removed.
    """
    key = hashlib.sha256(repr(sorted(made_from.items())).encode()).hexdigest()[:12]
    folder = root / f"{name}-{key}"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
    try:
        make(temporary)
        for stale in _versions_of(root, name):
            shutil.rmtree(stale)
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _versions_of(root: Path, name: str) -> list[Path]:
    """Folders ``name-<12 hex digits>``: a name may itself be the beginning of another."""
    return [path for path in root.glob(f"{name}-*") if path.is_dir() and "-" not in path.name.removeprefix(f"{name}-")]
