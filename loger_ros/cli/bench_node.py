"""``loger bench node``: what the node costs beyond the network, compared with a bare Reconstructor.

A camera and the node run at camera rate as separate processes over DDS, and this process listens to odometry,
poses and TF. Costs are processor seconds per second of the node's process, without ``encode`` and ``step`` of
the model, which the node measures in its own thread. Then a node that only takes the images and answers each
with three constant messages shows the least that rclpy and DDS cost here. Last, a bare Reconstructor takes
the same pictures in this process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from loger_ros.cli.arguments import add_parameters, amount, amount_or_none, image_size, positive
from loger_ros.config import StreamConfig
from loger_ros.geometry import mount
from loger_ros.ros.config import FramesConfig, NetworkConfig
from loger_ros.stream import Reconstructor
from loger_ros.types import Frame

if TYPE_CHECKING:
    from loger_ros.ros.bench.trial import Trial

MOUNTED = (0.0, 0.0, 0.5)  # metres from the base
STEADY = ("frames.extrinsic:=parameters", f"frames.camera_xyz:={list(MOUNTED)}", "model.threads:=1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny", help="name or path of a checkpoint (default: %(default)s)")
    parser.add_argument("--size", type=image_size, default=(640, 480), help="width x height of the images")
    parser.add_argument("--rate", type=amount, default=30.0, help="images per second (default: %(default)g)")
    parser.add_argument(
        "--seconds", type=amount, default=30.0, help="how long to measure, in s (default: %(default)g)"
    )
    parser.add_argument(
        "--warm-up",
        type=amount_or_none,
        default=5.0,
        help="seconds to run before measuring (default: %(default)g)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=300,
        help="images for the bare Reconstructor (default: %(default)s)",
    )
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    from loger_ros.ros.bench.trial import Ended, trial

    width, height = args.size
    camera = [f"width:={width}", f"height:={height}", f"rate:={args.rate:f}"]
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"model.checkpoint:={args.model}", f"output.folder:={folder}", *STEADY, *args.parameters]
        try:
            with trial(settings, "bench.steady_camera", camera) as node:
                ours, dropped = _measured(node, args), node.dropped()
            with trial([], "bench.steady_camera", camera, module="bench.relay") as node:
                relay = _measured(node, args)
        except Ended as error:
            print(error, file=sys.stderr)
            return 1
    rate = ours.frames / ours.seconds
    print(
        f"{args.model}, {width}x{height} rgb8, {ours.seconds:.0f} s: {rate:.1f} of {args.rate:g} images per "
        f"second, dropped {dropped or 'none'}, {ours.heard} odometry messages heard"
    )
    if rate < 0.95 * args.rate and dropped.get("lost_on_the_way"):
        print(
            "images were lost between the processes, so the costs per image are too high: `loger doctor` "
            "reports on large messages"
        )
    elif rate < 0.95 * args.rate:
        print(
            "this machine is too busy for that rate, so the costs per image are too high: try a lower --rate"
        )
    bare, least = _bare(args), relay.process / relay.frames
    for name, each in (
        ("network", ours.network / ours.frames),
        ("node without the network", (ours.process - ours.network) / ours.frames),
        ("bare Reconstructor without the network", bare),
        ("node that only relays", least),
        ("bare Reconstructor and relaying node", bare + least),
    ):
        print(f"{name:<38} {each * 1e3:6.2f} ms per image  {each * args.rate:7.2%} of one core")
    return 0


class Measured(NamedTuple):
    """What was measured between two moments."""

    seconds: float
    frames: float
    process: float  # processor seconds of the process, including the network's
    network: float
    heard: int  # odometry messages

    @classmethod
    def now(cls, node: Trial) -> Measured:
        names = ("frames_processed", "process_processor_s", "network_processor_s")
        frames, process, network = map(node.number, names)
        return cls(node.at, frames, process, network, node.odometry)

    def since(self, then: Measured) -> Measured:
        return Measured(
            self.seconds - then.seconds,
            self.frames - then.frames,
            self.process - then.process,
            self.network - then.network,
            self.heard - then.heard,
        )


def _measured(node: Trial, args: argparse.Namespace) -> Measured:
    ready = time.monotonic() + args.warm_up
    node.wait(lambda: node.at > ready, args.warm_up + 60)
    first = Measured.now(node)
    node.wait(
        lambda: node.at > first.seconds + args.seconds and Measured.now(node).frames > first.frames,
        args.seconds + 60,
    )
    return Measured.now(node).since(first)


def _bare(args: argparse.Namespace) -> float:
    """Return the processor seconds per image of a Reconstructor, without the network."""
    from loger_ros.ros.bench.steady_camera import lens, pictures
    from loger_ros.ros.network import load_network

    model = load_network(NetworkConfig(checkpoint=args.model, threads=1))
    given = (text.partition(":=") for text in args.parameters)
    stream: dict[str, Any] = {
        name.removeprefix("stream."): yaml.safe_load(value)
        for name, _, value in given
        if name.startswith("stream.")
    }
    config = StreamConfig(**{**model.recommended, **stream})
    level = mount(MOUNTED, FramesConfig.camera_rpy)
    camera = replace(lens(*args.size), T_base_camera=level)
    recon = Reconstructor.from_config(model, config, camera=camera, keep_results=False)
    images = pictures(*args.size)
    taken = 0.0
    for number in range(args.frames + 30):
        if number == 30:  # warmed up
            taken = time.process_time() - model.work.processor
        recon.push(Frame(round(number * 1e9 / args.rate), images[number % len(images)]))
    return (time.process_time() - model.work.processor - taken) / args.frames
