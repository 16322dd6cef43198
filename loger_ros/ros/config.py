"""The settings that only the node has. Imports no ROS, so commands and reference pages can read them."""

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
        "", "YAML file with the sizes of the network, for a .pt file that is neither LoGeR nor LoGeR*"
    )
    device: str = setting("auto", "Where the network runs: auto (cuda if available), cpu, cuda, or cuda:N")
    dtype: str = setting(
        "auto",
        "Precision of large matrix products; auto: bfloat16 on cuda (float16 before Ampere), else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    attention: str = setting("auto", "Implementation of attention", choices=("auto", "sdpa", "flash_attn"))
    threads: int = setting(0, "Number of CPU threads of torch; 0: torch decides", minimum=0, maximum=1024)

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
        "Names of the cameras. Each has its own stream, with topics below its name (front/image, "
        "front/odometry); an empty name means topics without a prefix. The first camera moves the TF tree",
    )
    image_transport: str = setting(
        "raw",
        "raw: subscribe to image; compressed: subscribe to image/compressed (JPEG, PNG)",
        choices=("raw", "compressed"),
    )
    reliable: bool = setting(
        False,
        "Have lost images sent again. Needs a reliable publisher: nothing is received from a best-effort one",
    )
    undistort: bool = setting(
        True, "Use camera_info to undistort images and to bring them to the field of view of the network"
    )
    rectified: str = setting(
        "auto",
        "Whether images are rectified already, so that P of camera_info applies: always, never, or auto (if "
        "the topic is called image_rect, image_rect_color or the like)",
        choices=("auto", "always", "never"),
    )
    camera_info_timeout: float = setting(
        2.0,
        "How long after the first image to wait for camera_info. Images are dropped meanwhile; after that "
        "they are used without it",
        unit="s",
        minimum=0,
    )
    max_pixels: int = setting(
        50_000_000, "Largest image accepted", unit="pixels", minimum=1, maximum=150_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cameras or len(set(self.cameras)) < len(self.cameras) or len(self.cameras) > 16:
            raise self.error("cameras", "must hold 1 to 16 different names")
        if not all(TOPIC_NAME.fullmatch(name) for name in self.cameras):
            raise self.error(
                "cameras", "must hold names made of letters, digits and _ that do not start with a digit"
            )


@dataclass(frozen=True)
class FramesConfig(Section):
    name = "frames"

    map: str = setting("map", "Name of the map frame")
    odom: str = setting("odom", "Name of the odometry frame")
    base: str = setting("base_link", "Name of the robot's frame")
    camera: str = setting("", "Name of the camera's optical frame; empty: the frame_id of the images")
    level: str = setting(
        "",
        "Frame that stays level with the ground (x ahead, z up), with its origin where the robot turns "
        "about. The pitch of the camera (stream.pitch) and motion on wheels (stream.motion) refer to it; "
        "empty, or if frames.extrinsic is parameters: frames.base",
    )
    publish_map_odom: bool = setting(True, "Publish map → odom on /tf")
    publish_odom_base: bool = setting(
        True, "Publish odom → base_link on /tf; if another node does, set this and publish_map_odom to false"
    )
    extrinsic: str = setting(
        "tf",
        "Source of the camera's pose on the robot: tf (/tf_static, base → camera) or parameters "
        "(frames.camera_xyz and frames.camera_rpy)",
        choices=("tf", "parameters"),
    )
    camera_xyz: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0), "Position of the camera in the base frame; three numbers per camera", unit="m"
    )
    camera_rpy: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0),
        "Roll, pitch (positive is down) and yaw of the camera's body, whose x axis looks ahead; the "
        "rotation to optical axes is added. Three numbers per camera",
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
                "must be false if publish_odom_base is: it belongs to this node's odom → base_link, and "
                "would misplace the robot together with another node's",
            )
        if any(abs(angle) > 2 * math.pi for angle in self.camera_rpy):
            raise self.error("camera_rpy", "must be in radians, each within one full turn")
        if len({self.map, self.odom, self.base}) < 3:
            raise self.error("odom", "must differ from frames.map and frames.base")


@dataclass(frozen=True)
class OutputConfig(Section):
    name = "output"

    folder: str = setting("~/.ros/loger", "Folder that holds every file the node writes")
    journal: str = setting(
        "journal.tum",
        "File in output.folder that gets every final pose as it comes, and that later runs continue; empty: "
        "none, and save_trajectory has nothing to save",
    )
    journal_limit: float = setting(
        1000.0, "A larger journal is renamed to .old, replacing the previous one", unit="MB", minimum=1
    )
    map_file: str = setting(
        "map.ply", "File in output.folder that save_map writes, .ply or .pcd", dynamic=True
    )
    trajectory_file: str = setting(
        "trajectory.tum", "File in output.folder that save_trajectory writes", dynamic=True
    )
    path_length: int = setting(
        2000, "Most poses in path; a longer path is thinned out", unit="poses", minimum=2, maximum=100_000
    )
    map_period: float = setting(
        2.0,
        "Least time between two map_points messages. Longer if publishing takes more than a tenth of it; "
        "published only while someone listens",
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
                raise self.error(name, "must be a file in output.folder: no leading / and no '..'")
        if self.trajectory_file == self.map_file:
            raise self.error("trajectory_file", "must differ from output.map_file")


@dataclass(frozen=True)
class HealthConfig(Section):
    name = "health"

    image_timeout: float = setting(
        5.0, "Warn if no image arrives for this long", unit="s", minimum=0.1, dynamic=True
    )
    step_timeout: float = setting(
        60.0,
        "Report an error if the network works on one image for longer than this",
        unit="s",
        minimum=0.1,
        dynamic=True,
    )


@dataclass(frozen=True)
class NodeConfig(Config):
    """All settings of the node; its parameters are these, named ``section.setting``."""

    model: NetworkConfig = field(default_factory=NetworkConfig)
    input: InputConfig = field(default_factory=InputConfig)
    frames: FramesConfig = field(default_factory=FramesConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames.camera and len(self.input.cameras) > 1:
            raise self.frames.error(
                "camera", "must be empty with several cameras, because each has a frame of its own"
            )
        if self.frames.extrinsic == "parameters":
            for numbers in ("camera_xyz", "camera_rpy"):
                if len(getattr(self.frames, numbers)) != 3 * len(self.input.cameras):
                    raise self.frames.error(
                        numbers, "must hold three numbers for each camera in input.cameras"
                    )
