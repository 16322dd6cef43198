"""Command-line flags for the settings in loger_ros.config."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from loger_ros.config import Section

SectionType = TypeVar("SectionType", bound=Section)


def add_settings(parser: argparse.ArgumentParser, section: type[Section], prefix: str = "") -> None:
    """One flag per field, such as --chunk-size; a flag that is not given sets nothing."""
    group = parser.add_argument_group(f"settings: {section.name}")
    hints = get_type_hints(section)
    default = {
        "stream": "default: what the checkpoint recommends, else",
        "cloud": "default: what suits the size of the images, else",
    }.get(section.name, "default:")
    for item in dataclasses.fields(section):  # type: ignore[arg-type]
        kind = hints[item.name]
        if kind not in (int, float, str):
            continue
        unit = f" [{item.metadata['unit']}]" if item.metadata["unit"] else ""
        group.add_argument(
            f"--{prefix}{item.name}".replace("_", "-"),
            dest=f"{section.name}.{item.name}",
            type=kind,
            choices=item.metadata["choices"] or None,
            metavar=None if item.metadata["choices"] else kind.__name__.upper(),
            help=f"{item.metadata['description']}{unit} ({default} {item.default})".replace("%", "%%"),
        )


def chosen_settings(
    args: argparse.Namespace, section: type[SectionType], recommended: Mapping[str, Any] | None = None
) -> SectionType:
    """Return the section: given flags win over what the checkpoint recommends, and that over the defaults."""
    names = {item.name for item in dataclasses.fields(section)}  # type: ignore[arg-type]
    values = {name: value for name, value in (recommended or {}).items() if name in names}
    for name in names:
        given = getattr(args, f"{section.name}.{name}", None)
        if given is not None:
            values[name] = given
    return section(**values)
