"""The settings that only the node has. Imports no ROS, so that commands and reference pages can read them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import PurePath

from loger_ros.config import Config, Section, setting

DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")
TOPIC_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?")


@dataclass(frozen=True)
class NetworkConfig(Section):
    name = "model"

    checkpoint: str = setting(
        "tiny", "The network: tiny, loger, loger_star, or the path of a checkpoint (.safetensors or .pt)"
    )
    config: str = setting(
        "", "YAML file with the sizes of the network, for a .pt that is neither LoGeR nor LoGeR*"
    )
    device: str = setting("auto", "Where the network runs: auto (cuda if there is one), cpu, cuda or cuda:1")
    dtype: str = setting(
        "auto",
        "Precision of the large products; auto: bfloat16 on cuda (float16 before Ampere), float32 on a CPU",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    attention: str = setting("auto", "Implementation of attention", choices=("auto", "sdpa", "flash_attn"))
    threads: int = setting(0, "Threads of torch on the CPU; 0: torch's own choice", minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not DEVICES.fullmatch(self.device):
            raise self.error("device", "must be auto, cpu, cuda or cuda:N")
        if not self.checkpoint:
            raise self.error("checkpoint", "must name a network")


@dataclass(frozen=True)
class InputConfig(Section):
    name = "input"

    cameras: tuple[str, ...] = setting(
        ("",),
        "One stream for each name, whose topics carry it (front/image, front/odometry); the empty name has "
        "plain topics. The first one moves the TF tree",
    )
    image_transport: str = setting(
        "raw", "raw reads image, compressed reads image/compressed (JPEG, PNG)", choices=("raw", "compressed")
    )
    reliable: bool = setting(
        False,
        "Ask for lost images again. Needs a reliable publisher: a best-effort one is then not heard at all",
    )
    undistort: bool = setting(
        True, "Use camera_info: straighten images, and bring them to the angle of view that the network knows"
    )
    rectified: str = setting(
        "auto",
        "Whether images are straight already, so that camera_info's P counts: always, never, or auto (topics "
        "called image_rect, image_rect_color and the like)",
        choices=("auto", "always", "never"),
    )
    camera_info_timeout: float = setting(
        2.0,
        "So long after the first image, images are dropped until camera_info comes; then it goes without",
        unit="s",
        minimum=0,
    )
    max_pixels: int = setting(
        50_000_000, "Larger images are refused", unit="pixels", minimum=1, maximum=150_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cameras or len(set(self.cameras)) < len(self.cameras) or len(self.cameras) > 16:
            raise self.error("cameras", "must hold 1 to 16 names that differ")
        if not all(TOPIC_NAME.fullmatch(name) for name in self.cameras):
            raise self.error(
                "cameras", "must hold names of letters, digits and _ that do not begin with a digit"
            )


@dataclass(frozen=True)
class FramesConfig(Section):
    name = "frames"

    map: str = setting("map", "Name of the map frame")
    odom: str = setting("odom", "Name of the odometry frame")
    base: str = setting("base_link", "Name of the robot's frame")
    camera: str = setting("", "Name of the camera's optical frame; empty: as the images say")
    level: str = setting(
        "",
        "Frame that stays level with the ground, x ahead and z up, by which the pitch of the camera is known "
        "(stream.pitch), and where the robot turns about (stream.motion); empty, or frames.extrinsic "
        "parameters: frames.base",
    )
    publish_map_odom: bool = setting(True, "Publish map → odom on /tf")
    publish_odom_base: bool = setting(
        True, "Publish odom → base_link on /tf; false, as publish_map_odom, where another node does"
    )
    extrinsic: str = setting(
        "tf",
        "Where the camera sits on the robot: tf (/tf_static, base → camera) or parameters (the two below)",
        choices=("tf", "parameters"),
    )
    camera_xyz: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "Position of the camera in the base frame, three numbers for each camera", unit="m"
    )
    camera_rpy: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0),
        "Roll, pitch (down is positive) and yaw of the camera's body, whose x looks ahead; the turn to "
        "optical axes is added. Three numbers for each camera",
        unit="rad",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for frame in ("map", "odom", "base"):
            if not getattr(self, frame):
                raise self.error(frame, "must not be empty")
        if self.publish_map_odom and not self.publish_odom_base:
            raise self.error(
                "publish_map_odom",
                "must be false where publish_odom_base is: it belongs to our own odom → base_link, and would "
                "put the robot somewhere else together with that of another node",
            )
        if any(abs(angle) > 2 * math.pi for angle in self.camera_rpy):
            raise self.error("camera_rpy", "must be radians, none of them beyond a whole turn")
        if len({self.map, self.odom, self.base}) < 3:
            raise self.error("odom", "must differ from frames.map and frames.base")


@dataclass(frozen=True)
class OutputConfig(Section):
    name = "output"

    folder: str = setting("~/.ros/loger", "Everything that is written goes here and nowhere else")
    journal: str = setting(
        "journal.tum",
        "The trajectory on disk as it grows, a file in output.folder that later runs continue; empty: none, "
        "and save_trajectory has nothing to save",
    )
    journal_limit: float = setting(
        1000.0, "A longer journal is renamed to .old (replacing the one before)", unit="MB", minimum=1
    )
    map_file: str = setting(
        "map.ply", "What save_map writes, .ply or .pcd, a file in output.folder", dynamic=True
    )
    trajectory_file: str = setting(
        "trajectory.tum", "What save_trajectory writes, a file in output.folder", dynamic=True
    )
    path_length: int = setting(
        2000, "Most poses in path; a longer way is thinned out", unit="poses", minimum=2, maximum=100_000
    )
    map_period: float = setting(
        2.0,
        "Publish map_points at most this often, less often where it took more than a tenth of that, and only "
        "while someone listens",
        unit="s",
        minimum=0.1,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folder:
            raise self.error("folder", "must not be empty")
        if not self.map_file.endswith((".ply", ".pcd")):
            raise self.error("map_file", "must end in .ply or .pcd")
        if not self.trajectory_file:
            raise self.error("trajectory_file", "must not be empty")
        for name in ("journal", "map_file", "trajectory_file"):
            path = PurePath(getattr(self, name))
            if path.is_absolute() or ".." in path.parts:
                raise self.error(name, "must be a file in output.folder: no beginning with /, no '..'")
        if self.trajectory_file == self.map_file:
            raise self.error("trajectory_file", "must differ from output.map_file")


@dataclass(frozen=True)
class HealthConfig(Section):
    name = "health"

    image_timeout: float = setting(
        5.0, "Complain when no image came for so long", unit="s", minimum=0.1, dynamic=True
    )
    step_timeout: float = setting(
        60.0, "Complain when the network worked on one image for so long", unit="s", minimum=0.1, dynamic=True
    )


@dataclass(frozen=True)
class NodeConfig(Config):
    """The whole tree of the node; its parameters are these, called ``section.setting``."""

    model: NetworkConfig = field(default_factory=NetworkConfig)
    input: InputConfig = field(default_factory=InputConfig)
    frames: FramesConfig = field(default_factory=FramesConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames.camera and len(self.input.cameras) > 1:
            raise self.frames.error(
                "camera", "must be empty with several cameras, whose images name a frame each"
            )
        if self.frames.extrinsic == "parameters":
            for numbers in ("camera_xyz", "camera_rpy"):
                if len(getattr(self.frames, numbers)) != 3 * len(self.input.cameras):
                    raise self.frames.error(numbers, "must hold three numbers for each of input.cameras")
