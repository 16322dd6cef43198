"""Start the node, and RViz if asked for:

ros2 launch loger_ros loger.launch.py image:=/camera/image_raw rviz:=true
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from loger_ros.ros.dds_profile import large_message_profile
from loger_ros.ros.interface import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, NODE, PATIENCE
from loger_ros.share import PACKAGE, share_file

# Argument → parameter. An empty one leaves the choice to params_file, then the checkpoint, then the defaults.
OVERRIDES = {
    "checkpoint": "model.checkpoint",
    "device": "model.device",
    "unit": "stream.unit",
    "motion": "stream.motion",
    "image_transport": "input.image_transport",
    "extrinsic": "frames.extrinsic",
    "output_folder": "output.folder",
    "use_sim_time": "use_sim_time",
    "autostart": "autostart",
}
# Read as numbers and booleans: launch keeps other text as text, and the node refuses text as a number.
READ = ("unit", "use_sim_time", "autostart")
ARGUMENTS = {
    "image": (
        IMAGE.name,
        "Topic of the camera's images. Named cameras (input.cameras) use NAME/image: remap those.",
    ),
    "camera_info": ("", "Topic of the camera's calibration; empty: camera_info beside the image topic."),
    "image_transport": (
        "",
        "raw or compressed (JPEG, PNG on IMAGE/compressed); empty: as params_file says, or raw.",
    ),
    "checkpoint": (
        "",
        "tiny, loger, loger_star or the path of a checkpoint; empty: as params_file says, or tiny.",
    ),
    "device": ("", "cpu, cuda or cuda:1; empty: as params_file says, or cuda if there is one."),
    "unit": (
        "",
        "Metres per unit of the network; for tiny the camera's height above the ground. Empty: as "
        "params_file says, or automatic: for tiny the camera's height above base_link, for others 1.",
    ),
    "motion": (
        "",
        "free, or wheels for a robot that turns about base_link and does not slide sideways. Empty: as "
        "params_file says, or free.",
    ),
    "extrinsic": (
        "",
        "Where the camera's mounting is taken from: tf (/tf_static) or parameters (see params_file). Empty: "
        "as params_file says, or tf.",
    ),
    "output_folder": (
        "",
        "Where trajectory and map are written; empty: as params_file says, or ~/.ros/loger.",
    ),
    "params_file": (
        str(share_file("config/loger.yaml")),
        "YAML file of parameters; the default lists all of them, config/presets has some to start from.",
    ),
    "use_sim_time": (
        "",
        "true: take the time from /clock, as with a bag or a simulator. Empty: as params_file says, or "
        "false; RViz takes it from here only.",
    ),
    "autostart": (
        "",
        "true: configure and activate at start-up; false: wait for the lifecycle services. Empty: as "
        "params_file says, or true.",
    ),
    "namespace": ("", "Namespace of the node and its topics."),
    "log_level": ("info", "Log level of the node: debug, info, warn or error."),
    "respawn": (
        "false",
        "true: restart the node 5 s after its process has ended, as it does when it loses the GPU.",
    ),
    "rviz": ("false", "true: also open RViz with our displays; it must be installed."),
}


def beside(image: str) -> str:
    """Return the topic on which drivers publish the calibration of these images."""
    return f"{image.rpartition('/')[0]}/{CAMERA_INFO.name}" if "/" in image else CAMERA_INFO.name


def start(context: LaunchContext) -> list:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    file = Path(value("params_file")).expanduser()
    if not file.is_file():  # launch itself would start the node without it
        raise FileNotFoundError(f"params_file:={file} is not a file")
    given = {
        parameter: LaunchConfiguration(name) if name in READ else value(name)
        for name, parameter in OVERRIDES.items()
        if value(name)
    }
    node = Node(
        package=PACKAGE,
        executable="loger_node",
        name=NODE,
        namespace=LaunchConfiguration("namespace"),
        parameters=[str(file), *([given] if given else [])],
        remappings=[
            (IMAGE.name, value("image")),
            (COMPRESSED_IMAGE.name, f"{value('image')}/compressed"),
            (CAMERA_INFO.name, value("camera_info") or beside(value("image"))),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=5.0,
        sigterm_timeout=str(PATIENCE + 10),  # before it ends, the node writes what it has computed
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"use_sim_time": given["use_sim_time"]}] if "use_sim_time" in given else [],
        remappings=[
            (IMAGE.name, value("image")),
            (COMPRESSED_IMAGE.name, f"{value('image')}/compressed"),
        ],
        arguments=["-d", str(share_file("rviz/loger.rviz"))],
        condition=IfCondition(LaunchConfiguration("rviz")),
        output="screen",
    )
    return [rviz, node]  # without RViz, launch stops here and leaves running what it has started before


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    profile = [
        SetEnvironmentVariable(name, value) for name, value in large_message_profile().environment.items()
    ]
    return LaunchDescription([*arguments, *profile, OpaqueFunction(function=start)])
