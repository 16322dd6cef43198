"""``loger bench node``: what the node costs beside the network, at camera rate, next to a bare Reconstructor.

A camera and the node run as processes of their own, over DDS, and this process listens to odometry, poses
and TF. Costs are processor seconds per second: of the node's process without ``encode`` and ``step`` of the
model, which the node measures in its own thread. The bare Reconstructor then takes the same pictures here.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from loger_ros.cli.arguments import image_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny", help="name or path of a checkpoint")
    parser.add_argument("--size", type=image_size, default=(640, 480), help="width x height of the images")
    parser.add_argument("--rate", type=float, default=30.0, help="images per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before that")
    parser.add_argument("--frames", type=int, default=300, help="for the bare Reconstructor")
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME:=VALUE", help="for the node"
    )


def run(args: argparse.Namespace) -> int:
    from loger_ros.ros.installation import this_machine_only

    for name, value in this_machine_only().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        first, last, heard = _node(args, folder)
    seconds = last["at"] - first["at"]
    grown = {name: last[name] - first[name] for name in first}
    rate = grown["frames_processed"] / seconds
    node = (grown["process_processor_s"] - grown["network_processor_s"]) / seconds
    network = grown["network_processor_s"] / seconds
    print(
        f"{args.model}, {args.size[0]}x{args.size[1]} rgb8, {seconds:.0f} s: {rate:.1f} of "
        f"{args.rate:g} images per second processed, {grown['dropped']:.0f} dropped, "
        f"{heard} odometry messages heard"
    )
    print(f"network            {network:7.2%} of one core")
    print(f"node without it    {node:7.2%} of one core ({node / rate * 1e3:.2f} ms per image)")
    bare = _bare(args)
    print(
        f"bare Reconstructor {bare * rate:7.2%} of one core without the network ({bare * 1e3:.2f} ms per "
        f"image): the node itself adds {node - bare * rate:.2%}"
    )
    return 0


def _node(args: argparse.Namespace, folder: str) -> tuple[dict[str, float], dict[str, float], int]:
    """Its counters at both ends of the measurement, and how many odometry messages came here."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from nav_msgs.msg import Odometry
    from tf2_msgs.msg import TFMessage

    from loger_ros.ros import interface
    from loger_ros.ros.interface import qos_profile
    from loger_ros.ros.process import running_ros

    width, height = args.size
    node = [f"model.checkpoint:={args.model}", f"output.folder:={folder}", "frames.extrinsic:=parameters"]
    camera = [f"width:={width}", f"height:={height}", f"rate:={args.rate:f}"]
    processes = []
    counters: dict[str, float] = {}
    odometry: list[int] = []

    def look(array: DiagnosticArray) -> None:
        counters.update(_counters(array))

    with running_ros([]):
        listener = rclpy.create_node("bench")
        for topic, kind, callback in (
            (interface.DIAGNOSTICS, DiagnosticArray, look),
            (interface.ODOMETRY, Odometry, lambda message: odometry.append(1)),
            (interface.POSE, PoseWithCovarianceStamped, lambda message: None),
            (interface.TF, TFMessage, lambda message: None),
        ):
            listener.create_subscription(kind, topic.name, callback, qos_profile(topic))
        try:
            for module, given in (("node", [*node, *args.parameters]), ("steady_camera", camera)):
                words = [word for value in given for word in ("-p", value)]
                command = [sys.executable, "-m", f"loger_ros.ros.{module}", "--ros-args", *words]
                processes.append(subprocess.Popen([*command, "--log-level", "warn"]))

            def spin(until: Any, limit: float) -> None:
                deadline = time.monotonic() + limit
                while not until():
                    if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                        raise SystemExit("the node did not come to work: see what it says above")
                    rclpy.spin_once(listener, timeout_sec=0.5)

            spin(lambda: counters.get("frames_processed", 0) > 0, 120)
            ready = time.monotonic() + args.warm_up
            spin(lambda: time.monotonic() > ready and counters["at"] > ready, args.warm_up + 60)
            first, heard = dict(counters), len(odometry)
            done = first["at"] + args.seconds
            spin(lambda: counters["at"] > done, args.seconds + 60)
            return first, dict(counters), len(odometry) - heard
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            for process in processes:
                process.wait(60)
            listener.destroy_node()


def _counters(array: Any) -> dict[str, float]:
    values = {value.key: value.value for status in array.status for value in status.values}
    if "frames_processed" not in values:
        return {}
    names = ("frames_processed", "process_processor_s", "network_processor_s")
    counters = {name: float(values[name]) for name in names}
    counters["dropped"] = sum(float(v) for name, v in values.items() if name.startswith("dropped_"))
    counters["at"] = time.monotonic()
    return counters


def _bare(args: argparse.Namespace) -> float:
    """Processor seconds per image of a Reconstructor, without the network."""
    from loger_ros.config import StreamConfig
    from loger_ros.ros.config import NetworkConfig
    from loger_ros.ros.network import load_network
    from loger_ros.ros.steady_camera import pictures
    from loger_ros.stream import Reconstructor
    from loger_ros.types import Frame

    model = load_network(NetworkConfig(checkpoint=args.model))
    stream = {name.removeprefix("stream."): _value(text) for name, text in _given(args, "stream.")}
    config = StreamConfig(**{**model.recommended, **stream})
    recon = Reconstructor.from_config(model, config, keep_results=False)
    images = pictures(*args.size)
    taken = 0.0
    for number in range(args.frames + 30):
        if number == 30:  # warm
            taken = time.process_time() - model.work.processor
        recon.push(Frame(round(number * 1e9 / args.rate), images[number % len(images)]))
    return (time.process_time() - model.work.processor - taken) / args.frames


def _given(args: argparse.Namespace, prefix: str) -> list[tuple[str, str]]:
    pairs = (text.partition(":=") for text in args.parameters)
    return [(name, value) for name, _, value in pairs if name.startswith(prefix)]


def _value(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)
