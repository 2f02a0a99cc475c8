"""What the benchmarks' command lines share."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path


def commit() -> str | None:
    """The source tree's commit, with ``-dirty`` behind it where files were changed; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def words(text: str) -> list[str]:
    """A comma list, as a type for argparse: at least one word."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise argparse.ArgumentTypeError("expected at least one name")
    return found
