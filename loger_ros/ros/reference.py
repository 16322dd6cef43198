"""The parameters as documents: config/loger.yaml and docs/parameters.md are made here, and a test compares.

Imports no ROS. ``loger parameters yaml > config/loger.yaml`` updates the first, ``markdown`` the second.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

from loger_ros.config import Section
from loger_ros.ros.config import NodeConfig

WIDTH = 100
TITLES = {  # in the order in which they are shown
    "model": "the network",
    "input": "images and camera_info",
    "frames": "frames of reference",
    "queue": "frames that wait for the network",
    "stream": "from frames to poses",
    "cloud": "which points are kept",
    "map": "the voxel map",
    "output": "files and published topics",
    "health": "when to warn",
}
YAML_HEAD = """\
# Every parameter of loger_node with its default. Remove the # in front of what you want to change, and give
# the file to the launch file:  ros2 launch loger_ros loger.launch.py params_file:=/path/to/your.yaml
#
# A parameter that stays commented out has the value that the checkpoint recommends (for example another
# chunk size), or else the default. Presets for some machines are in config/presets.
/**:
  ros__parameters:
    # Configure and activate at the start; if false, wait for the lifecycle services.
    autostart: true
"""
MARKDOWN_HEAD = """\
# Parameters of loger_node

Generated from the code by `loger parameters markdown`. [config/loger.yaml](../config/loger.yaml) has the same
as a file to start from; presets for some machines are in [config/presets](../config/presets).

What you set wins over what the checkpoint recommends (some of `stream.*`, and those of `cloud.*` that suit
the size of its images), and that wins over the defaults below. Parameters marked *live* take effect while
the node runs; the others are read when it is configured. A value that cannot work is refused, with the
reason. One parameter is in no section: `autostart` (default `true`) configures and activates the node at its
start; with `false` the node waits for the lifecycle services.
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str  # section.setting
    default: Any
    unit: str
    limits: str
    live: bool
    description: str


def entries() -> Iterator[tuple[str, list[Entry]]]:
    """Section by section."""
    sections: dict[str, type[Section]] = get_type_hints(NodeConfig)
    for name in TITLES:
        items = dataclasses.fields(sections[name])  # type: ignore[arg-type]
        yield name, [_entry(name, item) for item in items]


def _entry(section: str, item: dataclasses.Field) -> Entry:
    about = item.metadata
    return Entry(
        f"{section}.{item.name}",
        item.default,
        about["unit"],
        _limits(about["minimum"], about["maximum"], about["choices"]),
        about["dynamic"],
        about["description"],
    )


def _limits(low: float | None, high: float | None, choices: tuple[str, ...]) -> str:
    if choices:
        return ", ".join(choices)
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {_number(low)}"
    return f"at most {_number(high)}" if low is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _value(default: Any) -> str:
    """As YAML and as people write it."""
    return json.dumps(default if not isinstance(default, tuple) else list(default))


def parameters_yaml() -> str:
    lines = [YAML_HEAD]
    for section, items in entries():
        lines.append(f"\n    # ---- {section}: {TITLES[section]} ----\n")
        for entry in items:
            about = entry.description
            about += f" [{entry.unit}]" if entry.unit else ""
            about += f" ({entry.limits})" if entry.limits else ""
            lines.append(textwrap.fill(about, WIDTH, initial_indent="\n    # ", subsequent_indent="    # "))
            lines.append(f"\n    # {entry.name}: {_value(entry.default)}\n")
    return "".join(lines)


def parameters_markdown() -> str:
    lines = [MARKDOWN_HEAD]
    for section, items in entries():
        lines.append(
            f"\n## {section}: {TITLES[section]}\n\n| parameter | default | unit | allowed | meaning |\n"
        )
        lines.append("| --- | --- | --- | --- | --- |\n")
        for entry in items:
            about = entry.description + (" *(live)*" if entry.live else "")
            cells = (f"`{entry.name}`", f"`{_value(entry.default)}`", entry.unit, entry.limits, about)
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n")
    return "".join(lines)
