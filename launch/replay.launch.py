"""A bag, the node and RViz:

ros2 launch loger_ros replay.launch.py bag:=/path/of/bag image:=/camera/image_raw

The node stays when the bag has ended, so that its map can be looked at and saved; Ctrl+C ends it.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from loger_ros.share import share_file

ARGUMENTS = {
    "rate": ("1.0", "How fast to play; lower it where /diagnostics tells of dropped images."),
    "start": ("0.0", "Seconds of the bag to leave out at its beginning."),
    "image": ("image", "Topic of the images in the bag."),
    "camera_info": ("camera_info", "Topic of the calibration in the bag."),
    "image_transport": ("", "raw or compressed (JPEG, PNG on IMAGE/compressed); empty: raw."),
    "checkpoint": (
        "",
        "tiny, loger, loger_star or the path of a checkpoint; empty: as params_file says, or tiny.",
    ),
    "device": ("", "cpu, cuda or cuda:1; empty: cuda if there is one."),
    "unit": ("", "Metres per unit of the network; for tiny the camera's height above the ground. Empty: 1."),
    "extrinsic": (
        "",
        "Where the camera sits: tf (from /tf_static) or parameters (see params_file). Empty: tf.",
    ),
    "output_folder": ("", "Where trajectory and map are written; empty: ~/.ros/loger."),
    "params_file": (str(share_file("config/loger.yaml")), "YAML file of parameters."),
    "rviz": ("true", "Open RViz with our displays too."),
}
OF_THE_PLAYER = ("rate", "start")


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
        launch_arguments={
            "use_sim_time": "true",
            **{name: LaunchConfiguration(name) for name in ARGUMENTS if name not in OF_THE_PLAYER},
        }.items(),
    )
    return LaunchDescription([*arguments, node, player])
