"""LogerNode: lifecycle and wiring. The work is done in the files beside this one."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from tf2_msgs.msg import TFMessage

from loger_ros import inventory
from loger_ros.config import ConfigError
from loger_ros.failures import is_of_gpu, loses_gpu, reason_of
from loger_ros.inventory import Finding, Verdict
from loger_ros.ros.background import Background
from loger_ros.ros.config import NetworkConfig, NodeConfig
from loger_ros.ros.dds_profile import large_message_profile
from loger_ros.ros.health import WARN, Trouble, network_values, or_failure_status, status_message
from loger_ros.ros.interface import DIAGNOSTICS, LISTENING, NODE, PATIENCE, TF_STATIC, qos_profile
from loger_ros.ros.network import load_network
from loger_ros.ros.parameters import Parameters
from loger_ros.ros.process import refuse_arguments, running_ros
from loger_ros.ros.services import Services
from loger_ros.ros.session import Session
from loger_ros.ros.time_jumps import ClockWatch
from loger_ros.ros.transforms import StaticTransforms

Transition = Callable[["LogerNode", LifecycleState], TransitionCallbackReturn]
HANGS = "the network does not finish; restart the node"
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class GpuLost(Exception):
    """This process cannot use the GPU any more; only a new process can."""


def told(transition: Transition) -> Transition:
    """Report an exception in a transition, which rclpy does not, and stay in the state before.

    A shutdown that fails is still a shutdown.
    """

    @functools.wraps(transition)
    def wrapper(self: LogerNode, state: LifecycleState) -> TransitionCallbackReturn:
        self.problem = ""  # whatever went wrong before
        try:
            return transition(self, state)
        except Exception as error:
            smaller = "free memory on the device, or lower map.max_voxels"
            self.problem = f"{transition.__name__} failed: {reason_of(error, smaller)}"
            self.consider(error.__cause__ or error)
            if self.context.ok():  # otherwise a signal has ended it, which is no fault
                self.get_logger().error(self.problem)
        free_what_is_left()  # what the error referred to
        return FAILURE

    return wrapper


def free_what_is_left() -> None:
    gc.collect()  # the network and its callbacks refer to each other
    with contextlib.suppress(RuntimeError):  # the GPU may be lost
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class LogerNode(LifecycleNode):
    """configure loads the network, activate starts, deactivate keeps the memory, cleanup frees everything."""

    def __init__(self) -> None:
        super().__init__(NODE)
        about = "Configure and activate at the start; if false, wait for the lifecycle services."
        self.declare_parameter("autostart", True, ParameterDescriptor(description=about, read_only=True))
        self._session: Session | None = None
        self._settings = Parameters(self, self._settings_changed)
        self._findings: list[Finding] = []
        self.gpu_lost, self._lost_told = "", False  # why; whether /diagnostics has said so
        self._state = "unconfigured"
        self.problem = ""
        self.loader: Background | None = None  # loads the newest network
        self._transforms = StaticTransforms(self.get_logger().warning)
        self.create_subscription(TFMessage, TF_STATIC.name, self._transforms.hear, qos_profile(TF_STATIC))
        self._clock_watch, self._clock_told = ClockWatch(self.get_clock()), ""
        self._offers = Services(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, DIAGNOSTICS.name, qos_profile(DIAGNOSTICS))
        # Health has its own clock: simulated time may stand still.
        self.create_timer(1.0, self._look_after, clock=Clock(clock_type=ClockType.STEADY_TIME))
        change = self._service_change_state
        change.callback = self._or_refused(change.callback)

    def _or_refused(self, change: Callable[..., ChangeState.Response]) -> Callable[..., ChangeState.Response]:
        """Refuse a transition that does not fit the state; rclpy of Humble and Jazzy would end the node."""

        @functools.wraps(change)
        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change(request, response)
            except RuntimeError as error:
                self.get_logger().error(f"change_state is refused: {error}")
                response.success = False
                return response

        return answer

    def autostart(self) -> None:
        if self.get_parameter("autostart").value and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    # ---- lifecycle --------------------------------------------------------------------------------

    @told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._state = "configuring"
        try:
            self._look_around()
            model = self._load(self._settings.network())
            config = self._settings.recommend(model.recommended)
            for warning in (config.stream.unlike(model.recommended), self._settings.assumed()):
                if warning:
                    self.get_logger().warning(warning)
            self._session = Session(self, config, model, self._transforms)
        except BaseException:
            self._state = "unconfigured"
            raise
        self._offers.serve(self._session.streams, None)
        self._settings.configured = True
        self._state = "inactive"
        return SUCCESS

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        session = self._the_session()
        session.activate()
        self._offers.serve(session.streams, session.worker)
        self._state = "active"
        topics = ", ".join(channel.inputs.topic for channel in session.channels if channel.inputs)
        self.get_logger().info(f"{LISTENING} {topics}")
        return super().on_activate(state)

    @told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        session = self._the_session()
        if not session.deactivate():
            raise RuntimeError(HANGS)
        self._offers.serve(session.streams, None)
        self._state = "inactive"
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end_session_or_raise()
        self._state = "unconfigured"
        return SUCCESS

    @told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._state = "finalized"  # rclpy goes there in any case
        self._end_session_or_raise()
        return SUCCESS

    @told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.end_session()
        self._state = "unconfigured"
        return SUCCESS

    def end_session(self, in_a_hurry: bool = False) -> bool:
        """Write what is left and free the network. False: the network hangs and still holds everything."""
        session = self._session
        if session is not None and not session.deactivate():
            return False
        self._offers.serve((), None)
        self._settings.configured = False
        if session is None:
            return True
        session.finish(in_a_hurry)  # if a signal interrupts this, the session stays until the process ends
        self._session = None
        session.close()
        del session
        free_what_is_left()
        return True

    def consider(self, error: BaseException) -> None:
        """Note whether the error has made the GPU unusable."""
        if not self.gpu_lost and is_of_gpu(error):
            self.gpu_lost = loses_gpu(error, self._device())

    def unwritten(self, timeout: float) -> list[Path]:
        """Files requested of services that are still incomplete after at most ``timeout`` seconds."""
        return self._offers.unwritten(timeout)

    def _end_session_or_raise(self) -> None:
        if not self.end_session():
            raise RuntimeError(HANGS)

    # ---- helpers ---------------------------------------------------------------------------------

    def _the_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("the node is not configured")
        return self._session

    def _settings_changed(self, config: NodeConfig) -> None:
        if self._session is not None:
            self._session.settings_changed(config)

    def _look_around(self) -> None:
        self._findings = [inventory.torch(), inventory.device()]
        for finding in self._findings:
            text = f"{finding.name}: {finding.value}" + (f" ({finding.cure})" if finding.cure else "")
            if finding.verdict is Verdict.FINE:
                self.get_logger().info(text)
            else:
                self.get_logger().warning(text)
        large = large_message_profile()
        if large.cure:
            self.get_logger().warning(f"large messages: {large.reason}; {large.cure}")

    def _device(self) -> torch.device:
        """Where the network is, or would be."""
        name = self._settings.network().device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)

    def _load(self, settings: NetworkConfig) -> Any:
        """Load in a thread, so that the diagnostics go on: a large checkpoint takes half a minute."""
        loaded: list[Any] = []

        def load() -> None:
            try:
                loaded.append(load_network(settings))
            except Exception as error:
                loaded.append(error)

        self.loader = Background(load, "load")
        started = time.monotonic()
        self.get_logger().info(f"loading {settings.checkpoint}")
        self.loader.start()
        while self.loader.goes_on(1.0) and self.context.ok():
            self._publish_diagnostics()
        if not loaded:
            raise RuntimeError("interrupted while the network was being loaded")
        result = loaded.pop()  # nothing else may refer to the network, or it is never freed
        if isinstance(result, Exception):
            raise result
        count = sum(parameter.numel() for parameter in result.parameters())
        self.get_logger().info(
            f"loaded {settings.checkpoint}: {count:,} parameters in {time.monotonic() - started:.1f} s "
            f"on {result.device}"
        )
        return result

    # ---- diagnostics ------------------------------------------------------------------------------

    def _look_after(self) -> None:
        if self._lost_told:
            raise GpuLost(self.gpu_lost)
        if self._session is not None:
            self.gpu_lost = self.gpu_lost or self._session.gpu_lost
        self._publish_diagnostics()
        self._lost_told = bool(self.gpu_lost)

    def _publish_diagnostics(self) -> None:
        if not self.context.ok():
            return
        name = f"{self.get_name()}: node"
        statuses = or_failure_status(name, self._state, self._statuses)
        if self.gpu_lost:  # nothing else can be determined then
            troubles = [Trouble(DiagnosticStatus.ERROR, self.gpu_lost)]
            statuses = [status_message(name, "", troubles, self._state, {"state": self._state})]
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _statuses(self) -> list[DiagnosticStatus]:
        values = {"state": self._state, **{finding.name: finding.value for finding in self._findings}}
        hardware = ""
        statuses = []
        if self._session is not None:
            hardware = str(self._session.model.device)
            statuses = self._session.statuses(hardware)
            values["checkpoint"] = self._settings.network().checkpoint
            device = self._session.model.device
            if device.index or not values.get("device", "").startswith(device.type):
                values["device"] = hardware  # not the one that torch would choose
            values |= network_values(self._session.model)
        troubles = [Trouble(DiagnosticStatus.ERROR, self.problem)] if self.problem else []
        if self._session is not None and (assumed := self._settings.assumed()):
            troubles.append(Trouble(WARN, assumed))
        if text := self._clock_trouble():
            troubles.append(Trouble(WARN, text))
        return [
            status_message(f"{self.get_name()}: node", hardware, troubles, self._state, values),
            *statuses,
        ]

    def _clock_trouble(self) -> str:
        if not self.get_parameter("use_sim_time").value or self._state == "configuring":  # nobody listens
            return ""
        text = self._clock_watch.trouble()
        if text != self._clock_told and text:
            self.get_logger().warning(text)
        self._clock_told = text
        return text


def run(args: list[str] | None = None) -> int:
    ended, node, code = True, None, 0  # ended: nothing of it still runs
    with running_ros(args):
        refuse_arguments(NODE, args)
        try:
            node = LogerNode()
        except (ConfigError, ParameterException) as error:
            print(f"{NODE}: {error}", file=sys.stderr)
            return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            node.autostart()
            executor.spin()
        except GpuLost as lost:
            print(f"{NODE}: {lost}. The trajectory written so far is on disk", file=sys.stderr)
            code = 4
        finally:
            ended = False  # stays so if a second signal interrupts this
            ended = node.end_session(in_a_hurry=True)
            node.unwritten(PATIENCE)
            node.destroy_node()
    unwritten = [] if node is None else node.unwritten(0)
    for path in unwritten:
        print(f"{NODE}: {path} was requested, but the process ends before it is complete", file=sys.stderr)
    if not ended:
        print(f"{NODE}: the process ends without waiting for the network", file=sys.stderr)
    if unwritten or not ended:
        code = 3
    if code or (node is not None and node.loader is not None and node.loader.goes_on()):
        sys.stderr.flush()
        os._exit(code)  # Python cannot exit while a thread is in foreign code
    return 0
