"""The settings as ROS parameters: declared once from their dataclasses, checked by them on every change."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from loger_ros.config import Config, ConfigError, Section, cloud_settings_for, refuse_unknown
from loger_ros.ros.config import NetworkConfig, NodeConfig

TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
    tuple[float, ...]: Parameter.Type.DOUBLE_ARRAY,
}
MOST = {int: 2**63 - 1, float: 1.7976931348623157e308}
ADVISED = ("stream", "cloud")  # sections for which a checkpoint may recommend values
FOREIGN = ("qos_overrides.",)  # rclpy's own, which it declares when it needs them
WHEN = {True: "Can be changed at any time.", False: "Read when the node is configured."}


class Parameters:
    """Named ``section.setting``. What the user gave wins over what the checkpoint recommends."""

    def __init__(self, node: Node, changed: Callable[[NodeConfig], object]) -> None:
        """changed: called with settings that take effect while the node runs.

        Raises ConfigError for values that cannot work with any checkpoint.
        """
        self._node = node
        self._changed = changed
        self._ours = False  # whether we ourselves set what the checkpoint recommends
        self.configured = False  # then only dynamic ones can be changed
        self._given: set[str] = set()
        self._items = dict(_items())
        for name, (item, kind) in self._items.items():
            self._declare(name, item, kind)
        self._refuse_misspelt()
        self._check({})
        node.add_on_set_parameters_callback(self._judge)

    def network(self) -> NetworkConfig:
        """Which network to load, and how."""
        return NetworkConfig(**self._tree({})["model"])

    def recommend(self, stream: Mapping[str, Any]) -> NodeConfig:
        """Return the configuration with the checkpoint's stream settings and cloud settings that suit them.

        What the user gave stays.
        """
        defaults = {name: item.default for name, (item, _) in self._items.items()}
        values = {name: defaults[name] for name in self._items if name not in self._given}
        for name, value in stream.items():
            if f"stream.{name}" in values:
                values[f"stream.{name}"] = value
        for name, value in cloud_settings_for(self._config_with(values).stream).items():
            if f"cloud.{name}" in values:
                values[f"cloud.{name}"] = value
        config = self._config_with(values)  # refused as a whole, before anything is set
        self._ours = True
        try:
            flat = flattened(config)
            given = [_parameter(name, flat[name], self._items[name][1]) for name in values]
            result = self._node.set_parameters_atomically(given)
            if not result.successful:
                raise ConfigError(result.reason)
        finally:
            self._ours = False
        return config

    def assumed(self) -> str:
        """A warning about what is assumed because nobody set it; empty if nothing that matters is."""
        extrinsic, base = (self._node.get_parameter(f"frames.{name}").value for name in ("extrinsic", "base"))
        if extrinsic == "tf" or {"frames.camera_xyz", "frames.camera_rpy"} & self._given:
            return ""
        return (
            "frames.extrinsic is parameters, but neither frames.camera_xyz nor frames.camera_rpy is set: "
            f"the camera is assumed to be at the origin of {base} and to look straight ahead. Set them (to "
            "zeros if that is right)"
        )

    def _declare(self, name: str, item: dataclasses.Field, kind: Any) -> None:
        about = descriptor(item, kind)
        node = self._node
        # Without a default it holds a value only if the user gave one.
        node.declare_parameter(name, None, about)
        if node.get_parameter(name).type_ != Parameter.Type.NOT_SET:
            self._given.add(name)
        else:
            node.undeclare_parameter(name)
            node.declare_parameter(name, _plain(item.default), about)

    def _judge(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if self._ours:
            return SetParametersResult(successful=True)
        values = {}
        for parameter in parameters:
            if parameter.name not in self._items:
                continue
            item = self._items[parameter.name][0]
            if self.configured and not item.metadata["dynamic"]:
                if _same(parameter, self._node.get_parameter(parameter.name)):
                    continue  # a file of all parameters may be loaded to change a few
                reason = (
                    f"{parameter.name} is read when the node is configured: deactivate and clean up the node "
                    "first, or set the parameter at the start"
                )
                return SetParametersResult(successful=False, reason=reason)
            values[parameter.name] = parameter.value
        if not values:
            return SetParametersResult(successful=True)
        try:
            if self.configured:
                self._changed(self._config_with(values))
            else:
                self._check(values)
        except ValueError as error:  # ConfigError, and what Python raises for odd values
            return SetParametersResult(successful=False, reason=str(error))
        self._given |= set(values)
        return SetParametersResult(successful=True)

    def _refuse_misspelt(self) -> None:
        """Refuse misspelt settings, which would silently have no effect.

        A file may be for several nodes, so only what was hardly meant for another node is refused.
        """
        sections = self._tree({})
        # rclpy has no public way to find what was given but not declared.
        for name in getattr(self._node, "_parameter_overrides", {}):
            section, _, setting = name.partition(".")
            known = sections.get(section, ())
            if name not in self._items and difflib.get_close_matches(setting, known, n=1):
                refuse_unknown([setting], known, f"{section}.")
        warn_of_unknown(self._node, self._items)

    def _check(self, values: Mapping[str, Any]) -> None:
        """Check before the checkpoint is known, which may recommend other values for what was not given."""
        tree = self._tree(values)
        kinds = get_type_hints(NodeConfig)
        for section in ADVISED:
            kinds[section].check_each(tree[section])
        tree["stream"] = {"max_gap": tree["stream"]["max_gap"]}  # which queue.max_rate is compared with
        del tree["cloud"]
        NodeConfig.from_dict(tree)

    def _config_with(self, values: Mapping[str, Any]) -> NodeConfig:
        return NodeConfig.from_dict(self._tree(values))

    def _tree(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        tree: dict[str, dict[str, Any]] = {}
        for name in self._items:
            section, _, setting = name.partition(".")
            value = values[name] if name in values else self._node.get_parameter(name).value
            tree.setdefault(section, {})[setting] = value
        return tree


def warn_of_unknown(node: Node, known: Collection[str]) -> None:
    """Warn about parameters that were given but have no effect."""
    for name in getattr(node, "_parameter_overrides", {}):
        if node.has_parameter(name) or name.startswith(FOREIGN):
            continue
        meant = [one for one in known if one.endswith(f".{name}")] or difflib.get_close_matches(name, known)
        hint = f"; did you mean {' or '.join(meant)}?" if meant else ""
        node.get_logger().warning(f"the parameter {name} has no effect here{hint}")


def descriptor(item: dataclasses.Field, kind: Any) -> ParameterDescriptor:
    about, unit = item.metadata, item.metadata["unit"]
    text = f"{about['description']}{f' [{unit}]' if unit else ''}."
    # ROS refuses 10 for 10.0 and names types by numbers; our own check is friendlier.
    message = ParameterDescriptor(description=text, dynamic_typing=True)
    constraints = [WHEN[about["dynamic"]]]
    if about["choices"]:
        constraints.insert(0, f"One of {', '.join(about['choices'])}.")
    message.additional_constraints = " ".join(constraints)
    low, high = about["minimum"], about["maximum"]
    if kind in MOST and not (low is None and high is None):
        low = -MOST[kind] if low is None else kind(low)
        high = MOST[kind] if high is None else kind(high)
        if kind is int:
            message.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        else:
            message.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return message


def flattened(config: Config) -> dict[str, Any]:
    """Return the values by ``section.setting``."""
    return {
        f"{section}.{name}": value
        for section, values in config.to_dict().items()
        for name, value in values.items()
    }


def _items() -> list[tuple[str, tuple[dataclasses.Field, Any]]]:
    result = []
    for section_item in dataclasses.fields(NodeConfig):
        section: type[Section] = get_type_hints(NodeConfig)[section_item.name]
        hints = get_type_hints(section)
        for item in dataclasses.fields(section):  # type: ignore[arg-type]
            result.append((f"{section_item.name}.{item.name}", (item, hints[item.name])))
    return result


def _parameter(name: str, value: Any, kind: Any) -> Parameter:
    return Parameter(name, TYPES[kind], _plain(value))


def _same(one: Parameter, other: Parameter) -> bool:
    lists = one.type_ in (Parameter.Type.STRING_ARRAY, Parameter.Type.DOUBLE_ARRAY)
    return one.type_ == other.type_ and (
        list(one.value) == list(other.value) if lists else one.value == other.value
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
