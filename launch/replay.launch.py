"""A bag, the node and RViz:

ros2 launch loger_ros replay.launch.py bag:=/path/of/bag image:=/camera/image_raw

Takes the arguments of loger.launch.py as well, except use_sim_time and log_level, which it sets. Recorded
messages on the topics that this node publishes, such as /tf, /diagnostics and odometry, are played below
/recorded, except those below the names of input.cameras. The bag starts when the node says that it listens.
The node keeps running when the bag has ended, so that its map can be viewed and saved; Ctrl+C ends it.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from loger_ros.ros.interface import LISTENING, PUBLISHED, TF_STATIC
from loger_ros.share import share_file

NAMES = [topic.name for topic in PUBLISHED]
ARGUMENTS = {
    "rate": ("1.0", "Playback speed, 1.0 as recorded; lower it if /diagnostics reports dropped images."),
    "start": ("0.0", "Seconds to skip at the start of the bag."),
    "rviz": ("true", "true: also open RViz with our displays; set it to false if RViz is not installed."),
}


def check(context: LaunchContext) -> None:
    """Refuse wrong arguments before the node spends some seconds on loading."""
    bag = Path(LaunchConfiguration("bag").perform(context)).expanduser()
    if not bag.exists():
        raise FileNotFoundError(f"bag:={bag} does not exist")
    for name in ("rate", "start"):
        text = LaunchConfiguration(name).perform(context)
        try:
            float(text)
        except ValueError:
            raise ValueError(f"{name}:={text} is not a number") from None


def play(context: LaunchContext) -> list:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    bag = ["ros2", "bag", "play", str(Path(value("bag")).expanduser())]
    late = float(value("start")) > 0  # 0 is refused by older players
    offset = ["--start-offset", value("start")] if late else []
    space = LaunchConfiguration("namespace", default="").perform(context).strip("/")
    ours = [name if name[0] == "/" else f"/{space}/{name}".replace("//", "/") for name in NAMES]
    aside = [f"{name}:=/recorded{name}" for name in ours]
    command = [*bag, "--clock", "--rate", value("rate"), *offset, "--remap", *aside]
    player = ExecuteProcess(cmd=command, output="screen")
    if not late:
        return [player]
    # The camera's mounting is in the part that is skipped: play it first, when the player has found the node.
    mounting = [*bag, "--topics", TF_STATIC.name, "--delay", "2"]
    return [ExecuteProcess(cmd=mounting, on_exit=[player], output="screen")]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("bag", description="Folder of the bag to play."),
        *(
            DeclareLaunchArgument(name, default_value=default, description=description)
            for name, (default, description) in ARGUMENTS.items()
        ),
    ]
    begun = []

    def play_once(event: ProcessIO) -> list | None:
        if begun or LISTENING.encode() not in event.text:
            return None
        begun.append(event)
        return [OpaqueFunction(function=play)]

    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_file("launch/loger.launch.py"))),
        launch_arguments={
            "use_sim_time": "true",
            "log_level": "info",  # the awaited line is logged at this level
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    when_it_listens = OnProcessIO(on_stdout=play_once, on_stderr=play_once)
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=check), RegisterEventHandler(when_it_listens), node]
    )
