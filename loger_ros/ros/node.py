"""The node. Today it starts, says what this machine has and reports its health; it has no stream yet."""

from __future__ import annotations

import functools
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from loger_ros import inventory
from loger_ros.inventory import Finding, Verdict
from loger_ros.ros.interface import DIAGNOSTICS, NODE, qos_profile
from loger_ros.ros.process import running_ros

NO_STREAM = "no odometry: this version of the node does not read images yet"


Transition = Callable[["LogerNode", LifecycleState], TransitionCallbackReturn]


def told(transition: Transition) -> Transition:
    """rclpy keeps quiet about an exception in a transition. Say it, and stay in the state before."""

    @functools.wraps(transition)
    def wrapper(self: LogerNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self.get_logger().error(f"{transition.__name__} failed: {type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE

    return wrapper


class LogerNode(LifecycleNode):
    """Configure looks at what there is, activate says what it can do; /diagnostics tells it once a second."""

    def __init__(self) -> None:
        super().__init__(NODE)
        self.declare_parameter(
            "autostart",
            True,
            ParameterDescriptor(
                description="Configure and activate at the start; false waits for the lifecycle services.",
                read_only=True,
            ),
        )
        self._findings: list[Finding] = []
        self._state = "unconfigured"
        self._diagnostics = self.create_publisher(DiagnosticArray, DIAGNOSTICS.name, qos_profile(DIAGNOSTICS))
        self.create_timer(1.0, self._publish_diagnostics)

    def autostart(self) -> None:
        if not self.get_parameter("autostart").value:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._findings = [inventory.torch(), inventory.device(), inventory.checkpoint()]
        for finding in self._findings:
            text = f"{finding.name}: {finding.value}" + (f" ({finding.cure})" if finding.cure else "")
            if finding.verdict is Verdict.FINE:
                self.get_logger().info(text)
            else:
                self.get_logger().warning(text)
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._state = "active"
        self.get_logger().warning(NO_STREAM)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._findings = []
        self._state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def _publish_diagnostics(self) -> None:
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN,
            name=f"{self.get_name()}: stream",
            message=NO_STREAM,
            values=[
                KeyValue(key="state", value=self._state),
                *(KeyValue(key=finding.name, value=finding.value) for finding in self._findings),
            ],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def main(args: list[str] | None = None) -> None:
    with running_ros(args):
        node = LogerNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.autostart()
            executor.spin()
        finally:
            node.destroy_node()


if __name__ == "__main__":
    main()
