"""A synthetic camera, the node and RViz:  ros2 launch loger_ros demo.launch.py"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from loger_ros.ros.dds_profile import large_message_profile
from loger_ros.share import PACKAGE, share_file

ARGUMENTS = {
    "place": ("rooms", "Where the robot drives: rooms, corridor or street."),
    "seed": ("0", "Each number gives another place and path."),
    "rate": ("10.0", "Images per second."),
    "camera_height": ("0.5", "Height above the ground in metres; the node gets it too, as tiny's unit."),
    "effects": ("mild", "Effects of the camera: none, mild or harsh."),
    "checkpoint": ("tiny", "tiny, loger, loger_star or the path of a checkpoint."),
    "device": ("", "cpu, cuda or cuda:1; empty: cuda if there is one."),
    "namespace": ("", "Namespace of both nodes and their topics."),
    "rviz": ("true", "true: also open RViz with our displays; set it to false if RViz is not installed."),
}
NUMBERS = ("rate", "camera_height")  # 10 would be read as an integer and refused
HANDED_ON = ("checkpoint", "device", "namespace", "rviz")  # to the node's launch file, under the same name


def start_node(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """The path of a checkpoint may contain any character, so it is compared here, not in an expression."""
    tiny = LaunchConfiguration("checkpoint").perform(context) == "tiny"  # others have other units
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(share_file("launch/loger.launch.py"))),
            launch_arguments={
                "unit": LaunchConfiguration("camera_height") if tiny else "",
                "motion": "wheels" if tiny else "",
                **{name: LaunchConfiguration(name) for name in HANDED_ON},
            }.items(),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    profile = [
        SetEnvironmentVariable(name, value) for name, value in large_message_profile().environment.items()
    ]
    camera = Node(
        package=PACKAGE,
        executable="synthetic_camera",
        name="synthetic_camera",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {name: LaunchConfiguration(name) for name in ("place", "seed", "effects")},
            {name: ParameterValue(LaunchConfiguration(name), value_type=float) for name in NUMBERS},
        ],
        output="screen",
    )
    return LaunchDescription([*arguments, *profile, OpaqueFunction(function=start_node), camera])
