"""Start the node, and RViz if asked for:  ros2 launch loger_ros loger.launch.py rviz:=true"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from loger_ros.ros.dds_profile import large_message_profile
from loger_ros.ros.interface import NODE
from loger_ros.share import PACKAGE, share_file


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of the node and its topics."
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            description="Configure and activate at the start; false waits for the lifecycle services.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="How much the node says: debug, info, warn or error.",
        ),
        DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with our displays too."),
    ]
    profile = [
        SetEnvironmentVariable(name, value) for name, value in large_message_profile().environment.items()
    ]
    node = Node(
        package=PACKAGE,
        executable="loger_node",
        name=NODE,
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"autostart": LaunchConfiguration("autostart")}],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        emulate_tty=True,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(share_file("rviz/loger.rviz"))],
        condition=IfCondition(LaunchConfiguration("rviz")),
        output="screen",
    )
    return LaunchDescription([*arguments, *profile, node, rviz])
