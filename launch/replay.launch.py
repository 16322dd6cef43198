"""A bag, the node and RViz:

ros2 launch loger_ros replay.launch.py bag:=/path/of/bag image:=/camera/image_raw

Takes the arguments of loger.launch.py as well: launch hands them on. The node stays when the bag has ended,
so that its map can be looked at and saved; Ctrl+C ends it.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from loger_ros.share import share_file

ARGUMENTS = {
    "rate": ("1.0", "How fast to play; lower it where /diagnostics tells of dropped images."),
    "start": ("0.0", "Seconds of the bag to leave out at its beginning."),
    "rviz": ("true", "Open RViz with our displays too."),
}


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("bag", description="Folder of the bag to play."),
        *(
            DeclareLaunchArgument(name, default_value=default, description=description)
            for name, (default, description) in ARGUMENTS.items()
        ),
    ]
    player = ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", LaunchConfiguration("bag"), "--clock"),
            *("--rate", LaunchConfiguration("rate"), "--start-offset", LaunchConfiguration("start")),
        ],
        output="screen",
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_file("launch/loger.launch.py"))),
        launch_arguments={"use_sim_time": "true", "rviz": LaunchConfiguration("rviz")}.items(),
    )
    return LaunchDescription([*arguments, node, player])
