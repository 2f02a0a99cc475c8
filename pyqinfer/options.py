"""Checks the options of a configuration when it is made, rather than where they are first used."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def check_types(configuration: Any) -> None:
    """Hold every field of a dataclass that is annotated as int, float, bool or str against that type.

    Raises:
        TypeError: names the field, the type that it takes and the one it got.
    """
    for field in fields(configuration):
        wanted, value = _TYPES.get(str(field.type)), getattr(configuration, field.name)
        # True is an int to Python, and a mistake where a number is asked for.
        if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise TypeError(f"{field.name}: expected {field.type}, got {type(value).__name__} {value!r}")
