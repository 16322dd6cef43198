"""How the node ends while the network works on a chunk: a real one, whose steps wait to be let go."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from node_rig import NODE, SECOND, Tester, end, node_process, pictures, said_by  # noqa: E402
from rclpy.task import Future  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from loger_ros.mapping.journal import read_journal  # noqa: E402
from loger_ros.ros import interface  # noqa: E402

CHUNK = 4
SETTINGS = {
    "stream__chunk_size": CHUNK,
    "stream__provisional_every": 0,
    "input__undistort": False,
    "input__reliable": True,
    "frames__extrinsic": "parameters",
}
GO, INSIDE = "go", "inside"  # files: the steps wait for the first and make the second


def program(folder: Path, patience: float, one_wish: float) -> str:
    """The node, whose network waits for a file; it waits ``patience`` seconds for that to end.

    Signals within ``one_wish`` seconds are one.
    """
    return f"""
import pathlib, sys, time
import loger_ros.ros.session as session
import loger_ros.ros.signals as signals
from loger_ros.ros.network import WatchedModel
from loger_ros.ros.node import main
folder, done = pathlib.Path({str(folder)!r}), WatchedModel.step
def step(*arguments, **options):
    (folder / {INSIDE!r}).touch()
    while not (folder / {GO!r}).exists():
        time.sleep(0.02)
    return done(*arguments, **options)
WatchedModel.step = step
session.PATIENCE, session.HURRY = {patience}, 1e9
signals.ONE_WISH = {one_wish}
sys.exit(main())
"""


@contextmanager
def inside_the_network(
    environment: dict[str, str], domain: int, folder: Path, patience: float = 60.0, one_wish: float = 60.0
) -> Iterator[tuple[Tester, list[int]]]:
    """The node in the middle of its first chunk, and the stamps of that; its watchdog has said so."""
    settings = SETTINGS | {"health__step_timeout": 0.5, "output__folder": folder}
    tester = Tester(domain)
    tester.hear(interface.DIAGNOSTICS)
    try:
        with node_process(
            environment, python=("-c", program(folder, patience, one_wish)), **settings
        ) as process:
            tester.process = process
            stamps = tester.send_images(pictures(CHUNK), SECOND)
            tester.wait(lambda: "has been working on one image for" in tester.health().get("message", ""))
            assert tester.health()["level"] == "2"
            yield tester, stamps
    finally:
        tester.close()


def asked(tester: Tester, kind: type, service: str, request: Any) -> Future:
    """Of the node, which need not answer."""
    client = tester.node.create_client(kind, f"/{NODE}/{service}")
    tester.wait(client.service_is_ready)
    return client.call_async(request)


LOST = """
import sys
import loger_ros.failures as failures
import loger_ros.ros.loger_node as loger_node
from loger_ros.model.checkpoint import Checkpoint
from loger_ros.ros.network import WatchedModel
done, steps = WatchedModel.step, iter(range({steps}))
def lost(*_):
    raise RuntimeError("CUDA error: unspecified launch failure\\nCompile with TORCH_USE_CUDA_DSA")
def step(*arguments, **options):
    if next(steps, None) is None:
        failures.works, loger_node.network_values = (lambda device: False), lost
        Checkpoint.copy = lost
        lost()
    return done(*arguments, **options)
WatchedModel.step = step
if not {steps}:
    failures.works, Checkpoint.copy = (lambda device: False), lost
sys.exit(loger_node.run())
"""


def test_a_lost_gpu_ends_it_so_that_another_process_can_begin(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    settings = SETTINGS | {"stream__overlap": 1, "output__folder": tmp_path}
    tester = Tester(ros_domain)
    tester.hear(interface.DIAGNOSTICS)
    try:
        with node_process(ros_environment, python=("-c", LOST.format(steps=2)), **settings) as process:
            tester.process = process
            stamps = tester.send_images(pictures(10), SECOND)  # the third chunk fails
            assert process.wait(60) == 4
            said = said_by(process)
            assert "loger: CUDA error: unspecified launch failure: the GPU is lost to this process" in said
            assert "the node cannot check its own state" not in said
            assert "Traceback" not in said
            assert "TORCH_USE_CUDA_DSA" not in said
            tester.process = None
        tester.wait(lambda: "the GPU is lost" in tester.health("node").get("message", ""))
        assert tester.health("node")["level"] == "2"
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps[:7]
    finally:
        tester.close()


@pytest.mark.parametrize("moment", ["loading", "the last chunk"])
def test_a_gpu_that_is_lost_when_the_network_is_loaded_ends_it_too(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path, moment: str
) -> None:
    program = LOST.format(steps=0 if moment == "loading" else 1)
    tester = Tester(ros_domain)
    try:
        with node_process(
            ros_environment, python=("-c", program), **SETTINGS, output__folder=tmp_path
        ) as process:
            if moment != "loading":
                tester.process = process
                tester.hear(interface.DIAGNOSTICS)
                tester.send_images(pictures(CHUNK + 2), SECOND)
                tester.wait(lambda: tester.health().get("frames_processed") == str(CHUNK + 2))
                assert tester.transition("deactivate")
                assert tester.transition("cleanup")
                assert "last_chunk_lost: CUDA error: unspecified launch failure" in said_by(process)
                assert not tester.transition("configure")
            assert process.wait(60) == 4, said_by(process)
            assert "loger: CUDA error: unspecified launch failure: the GPU is lost" in said_by(process)
    finally:
        tester.close()


FREED = """
import gc, sys
import loger_ros.ros.loger_node as loger_node
from loger_ros.model import LoGeR
done, session, fails = loger_node.LogerNode._look_after, loger_node.Session, iter((True, False))
def look_after(node):
    left = sum(type(thing) is LoGeR for thing in gc.get_objects())
    print(node._state, "networks left:", left, file=sys.stderr, flush=True)
    done(node)
def maybe(*arguments):
    if next(fails):
        raise RuntimeError("CUDA error: out of memory")
    return session(*arguments)
loger_node.LogerNode._look_after, loger_node.Session = look_after, maybe
sys.exit(loger_node.run())
"""


def test_cleanup_frees_the_network_and_so_does_a_configure_that_fails(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    tester = Tester(ros_domain)
    try:
        with node_process(ros_environment, python=("-c", FREED), output__folder=tmp_path) as process:
            tester.process = process
            tester.wait(lambda: "unconfigured networks left:" in said_by(process))
            assert "lower map.max_voxels" in said_by(process)
            assert tester.transition("configure")
            tester.wait(lambda: "inactive networks left: 1" in said_by(process))
            assert tester.transition("cleanup")
            before = len(said_by(process))
            tester.wait(lambda: "unconfigured networks left:" in said_by(process)[before:])
            assert "unconfigured networks left: 1" not in end(process)
    finally:
        tester.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_waits_for_the_chunk_at_hand_and_keeps_its_poses(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path, how: signal.Signals
) -> None:
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, stamps):
        process = tester.process
        process.send_signal(how)
        time.sleep(0.5)
        assert process.poll() is None
        (tmp_path / GO).touch()
        end(process, signal.SIGTERM)  # as a launch sends it to one that takes its time: nothing is cut short
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps


def test_a_service_is_answered_when_the_chunk_at_hand_is_done_and_nothing_else_waits_for_that(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, stamps):
        told = len(tester.heard[interface.DIAGNOSTICS.name])
        reset = asked(tester, Trigger, "reset", Trigger.Request())
        assert tester.state() == "active"
        tester.wait(lambda: len(tester.heard[interface.DIAGNOSTICS.name]) > told)
        assert tester.set("output.map_period", 3.0) == ""
        assert not reset.done()
        (tmp_path / GO).touch()
        assert tester.wait(reset.done)
        assert reset.result().success
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps
        end(tester.process)


def test_a_signal_while_the_last_chunk_is_worked_on_in_a_transition_costs_no_pose(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, stamps):
        (tmp_path / GO).touch()
        stamps += tester.send_images(pictures(2), stamps[-1] + SECOND // 10)
        tester.wait(lambda: tester.health().get("frames_processed") == str(len(stamps)))
        assert tester.transition("deactivate")
        (tmp_path / GO).unlink()
        (tmp_path / INSIDE).unlink()
        asked(
            tester, ChangeState, "change_state", ChangeState.Request(transition=Transition(label="cleanup"))
        )
        tester.wait((tmp_path / INSIDE).exists)
        tester.process.send_signal(signal.SIGINT)
        (tmp_path / GO).touch()
        assert tester.process.wait(60) == 0
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps


def test_a_signal_while_a_transition_waits_for_the_chunk_at_hand_costs_no_pose(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    """Before Python 3.13, a join that SIGINT interrupts takes the thread for ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, stamps):
        deactivate = ChangeState.Request(transition=Transition(label="deactivate"))
        asked(tester, ChangeState, "change_state", deactivate)
        tester.wait(lambda: tester.node.count_subscribers("/image") == 0)
        tester.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert tester.process.poll() is None
        (tmp_path / GO).touch()
        assert tester.process.wait(60) == 0
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps


def test_a_file_that_was_asked_for_and_cannot_be_written_any_more_is_named(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, _):
        saved = asked(tester, Trigger, "save_map", Trigger.Request())
        tester.rest(1.0)
        for _ in range(2):  # asked after it, and answered in a later round of the executor
            assert tester.state() == "active"
        assert not saved.done()
        tester.process.send_signal(signal.SIGTERM)
        tester.wait(lambda: tester.node.count_subscribers("/image") == 0)  # it ends: nobody answers any more
        (tmp_path / GO).touch()
        assert tester.process.wait(60) == 3
        assert f"{tmp_path / 'map.ply'} was requested" in said_by(tester.process)


LOADS_FOR_LONG = """
import sys, time
import loger_ros.ros.loger_node as loger_node
from loger_ros.ros.node import main
loger_node.load_network = lambda settings: time.sleep(60)
sys.exit(main())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_network_is_loaded_ends_the_node(
    ros_environment: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with node_process(ros_environment, python=("-c", LOADS_FOR_LONG), output__folder=tmp_path) as process:
        deadline = time.monotonic() + 60
        while "loading tiny" not in said_by(process):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        said = end(process, how)
        assert "terminate called" not in said
        assert "on_configure failed" not in said


SAVES_AND_LOADS_FOR_LONG = """
import sys, time
import loger_ros.ros.loger_node as loger_node
import loger_ros.ros.services as services
from loger_ros.ros.node import main
load_network, loads = loger_node.load_network, []
def load(settings):
    loads.append(settings)
    return load_network(settings) if len(loads) == 1 else time.sleep(60)
loger_node.load_network, loger_node.PATIENCE = load, 1.0
services.write_map = lambda path, cloud: time.sleep(60)
sys.exit(main())
"""


def test_a_file_that_is_owed_when_a_signal_ends_the_loading_of_another_network_is_named(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    settings = {
        "input__undistort": False,
        "input__reliable": True,
        "frames__extrinsic": "parameters",
        "cloud__min_confidence": 0.0,  # noise shows tiny nothing that it would believe
        "output__folder": tmp_path,
    }
    tester = Tester(ros_domain)
    try:
        with node_process(ros_environment, python=("-c", SAVES_AND_LOADS_FOR_LONG), **settings) as process:
            tester.process = process
            poses = tester.hear(interface.POSE)
            tester.send_images(pictures(CHUNK), SECOND)
            tester.wait(lambda: poses)
            asked(tester, Trigger, "save_map", Trigger.Request())
            tester.rest(1.0)
            assert tester.transition("deactivate")
            assert tester.transition("cleanup")
            asked(
                tester,
                ChangeState,
                "change_state",
                ChangeState.Request(transition=Transition(label="configure")),
            )
            tester.wait(lambda: said_by(process).count("loading tiny") == 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 3
            assert f"{tmp_path / 'map.ply'} was requested" in said_by(process)
    finally:
        tester.close()


ONE_CAMERA_FAILS = """
import sys
import loger_ros.ros.session as session
from loger_ros.ros.node import main
made, calls = session.Inputs, []
def once(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
        raise RuntimeError("too many sockets")
    return made(*arguments)
session.Inputs = once
sys.exit(main())
"""


def test_an_activation_that_fails_half_way_leaves_nothing_behind(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    settings = {
        "input__cameras": ["front", "rear"],
        "frames__extrinsic": "parameters",
        "frames__camera_xyz": [0.0] * 6,
        "frames__camera_rpy": [0.0] * 6,
        "output__folder": tmp_path,
        "autostart": False,
    }
    tester = Tester(ros_domain)
    try:
        with node_process(ros_environment, python=("-c", ONE_CAMERA_FAILS), **settings) as process:
            tester.process = process
            assert tester.transition("configure")
            assert not tester.transition("activate")
            assert "too many sockets" in said_by(process)
            if tester.state() == "unconfigured":
                assert tester.transition("configure")
            assert tester.transition("activate")
            tester.wait(lambda: tester.node.count_subscribers("/rear/image") == 1)
            tester.wait(lambda: tester.node.count_subscribers("/front/image") == 1)
            assert tester.transition("deactivate")
            tester.wait(lambda: tester.node.count_subscribers("/front/image") == 0)
            end(process)
    finally:
        tester.close()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_that_two_have_passed_on_is_one(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path, first: signal.Signals
) -> None:
    """launch sends SIGINT to what the terminal, or systemd, has told already."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored, a child ignores it, too
    with inside_the_network(ros_environment, ros_domain, tmp_path) as (tester, stamps):
        tester.process.send_signal(first)
        tester.wait(lambda: tester.node.count_subscribers("/image") == 0)
        tester.process.send_signal(signal.SIGINT)
        tester.rest(0.5)
        assert tester.process.poll() is None
        (tmp_path / GO).touch()
        assert tester.process.wait(60) == 0
        assert list(read_journal(tmp_path / "journal.tum").stamps) == stamps


def test_who_insists_need_not_wait(ros_environment: dict[str, str], ros_domain: int, tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with inside_the_network(ros_environment, ros_domain, tmp_path, one_wish=0.0) as (tester, _):
        asked(tester, Trigger, "save_map", Trigger.Request())
        tester.rest(1.0)
        for _ in range(2):  # asked after it, and answered in a later round of the executor
            assert tester.state() == "active"
        tester.process.send_signal(signal.SIGINT)
        tester.wait(lambda: tester.node.count_subscribers("/image") == 0)  # two at once would be one
        tester.process.send_signal(signal.SIGINT)
        ends_without_the_network(tester.process)
        assert f"{tmp_path / 'map.ply'} was requested" in said_by(tester.process)


def test_a_network_that_hangs_is_told_and_left_behind(
    ros_environment: dict[str, str], ros_domain: int, tmp_path: Path
) -> None:
    with inside_the_network(ros_environment, ros_domain, tmp_path, patience=1.0) as (tester, _):
        assert not tester.transition("deactivate")
        assert tester.state() == "active"
        tester.wait(lambda: "does not finish; restart the node" in tester.health("node")["message"])
        tester.process.send_signal(signal.SIGINT)
        ends_without_the_network(tester.process)


def ends_without_the_network(process: subprocess.Popen) -> None:
    assert process.wait(60) == 3
    said = said_by(process)
    assert "the process ends without waiting for the network" in said
    assert "terminate called" not in said
