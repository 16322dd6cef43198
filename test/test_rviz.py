"""The RViz file against our interface. Whether it renders needs RViz; that its settings agree does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from loger_ros.ros.interface import FRAMES, IMAGE, PUBLISHED, SUBSCRIBED, Topic
from loger_ros.share import share_file

RVIZ = yaml.safe_load(share_file("rviz/loger.rviz").read_text())
MANAGER = RVIZ["Visualization Manager"]
TOPICS = {topic.name: topic for topic in (*PUBLISHED, *SUBSCRIBED)}

# Class of a display → type of message it shows
DISPLAYS = {
    "rviz_default_plugins/Odometry": "nav_msgs/msg/Odometry",
    "rviz_default_plugins/Path": "nav_msgs/msg/Path",
    "rviz_default_plugins/PoseWithCovariance": "geometry_msgs/msg/PoseWithCovarianceStamped",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",  # or, below that topic, CompressedImage
}
OTHER_CLASSES = {
    *(f"rviz_common/{name}" for name in ("Displays", "Views", "Time", "Selection", "Tool Properties")),
    *(f"rviz_default_plugins/{name}" for name in ("Grid", "TF", "Axes", "Orbit", "XYOrbit", "TopDownOrtho")),
    *(f"rviz_default_plugins/{name}" for name in ("MoveCamera", "Select", "FocusCamera", "Measure")),
    *("rviz_default_plugins/SetInitialPose", ""),
}


def with_class(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        if "Class" in node:
            yield node
        for value in node.values():
            yield from with_class(value)
    elif isinstance(node, list):
        for value in node:
            yield from with_class(value)


def displays() -> list:
    return [
        pytest.param(display, id=display["Name"]) for display in MANAGER["Displays"] if "Topic" in display
    ]


def compatible(display: dict, topic: Topic) -> bool:
    """A subscriber may ask for no more than the publisher offers."""
    asks_reliable = display["Topic"]["Reliability Policy"] == "Reliable"
    asks_latched = display["Topic"]["Durability Policy"] == "Transient Local"
    return (topic.reliable or not asks_reliable) and (topic.transient_local or not asks_latched)


def test_every_class_is_one_of_rviz2() -> None:
    classes = {node["Class"] for node in with_class(RVIZ)}
    assert classes <= {*DISPLAYS, *OTHER_CLASSES}


@pytest.mark.parametrize("display", displays())
def test_a_display_shows_a_topic_of_ours_with_a_qos_that_matches(display: dict) -> None:
    topic = TOPICS[display["Topic"]["Value"]]
    assert topic.type.replace("Compressed", "") == DISPLAYS[display["Class"]]
    assert compatible(display, topic)


def test_a_late_rviz_gets_the_map() -> None:
    (shown,) = [display for display in MANAGER["Displays"] if display.get("Name") == "Map"]
    assert shown["Topic"]["Durability Policy"] == "Transient Local"


def test_everything_one_wants_to_see_is_shown() -> None:
    shown = {d["Topic"]["Value"] for d in MANAGER["Displays"] if "Topic" in d and d["Enabled"]}
    assert shown == {"odometry", "path", "points", "map_points", IMAGE.name}
    clouds = [d for d in MANAGER["Displays"] if d["Class"].endswith("PointCloud2")]
    assert all(cloud["Color Transformer"] == "RGB8" for cloud in clouds)
    classes = {d["Class"] for d in MANAGER["Displays"] if d["Enabled"]}
    assert {"rviz_default_plugins/TF", "rviz_default_plugins/Grid"} <= classes


def windows() -> dict[str, bool]:
    """Name → visible, of the windows around the view: each is a mark, a length, a name and a flag."""
    saved = bytes.fromhex(RVIZ["Window Geometry"]["QMainWindow State"])
    found = {}
    for mark in re.finditer(rb"\xfb(....)", saved, re.DOTALL):
        end = mark.end() + int.from_bytes(mark[1], "big")
        found[saved[mark.end() : end].decode("utf-16-be")] = saved[end] == 1
    return found


def test_the_window_of_an_image_is_shown_where_its_display_is_on() -> None:
    """RViz enables a display whose window becomes visible, and without a saved state all of them do."""
    images = {d["Name"]: d["Enabled"] for d in MANAGER["Displays"] if d["Class"].endswith("/Image")}
    panels = {panel["Name"] for panel in RVIZ["Panels"]}
    assert windows().keys() == images.keys() | panels
    assert images.items() <= windows().items()


def test_docks_are_not_hidden_by_chance() -> None:
    """Where the file does not say it, RViz takes what is in an uninitialised variable."""
    geometry = RVIZ["Window Geometry"]
    assert (geometry["Hide Left Dock"], geometry["Hide Right Dock"]) == (False, False)


def test_frames_are_in_our_tree() -> None:
    assert MANAGER["Global Options"]["Fixed Frame"] == FRAMES[0]
    assert MANAGER["Views"]["Current"]["Target Frame"] in FRAMES
