from __future__ import annotations

import dataclasses

import pytest

from loger_ros.config import (
    CloudConfig,
    Config,
    ConfigError,
    MapConfig,
    QueueConfig,
    StreamConfig,
    cloud_settings_for,
)
from loger_ros.ros.config import NodeConfig

SECTIONS = [type(getattr(NodeConfig(), item.name)) for item in dataclasses.fields(NodeConfig)]


def test_the_defaults_work_and_come_back_from_yaml(tmp_path):
    for config in (Config(), NodeConfig()):
        assert type(config).from_dict(config.to_dict()) == config
        path = tmp_path / "loger.yaml"
        path.write_text(config.to_yaml())
        assert type(config).from_yaml(path) == config


def test_values_come_back_from_yaml(tmp_path):
    config = Config(
        stream=StreamConfig(chunk_size=48, overlap=5, resolution="640x480", max_gap=2.5),
        queue=QueueConfig(policy="keep_all", max_rate=5),
        cloud=CloudConfig(max_range=30),
        map=MapConfig(eviction="age"),
    )
    path = tmp_path / "loger.yaml"
    path.write_text(config.to_yaml())
    again = Config.from_yaml(path)
    assert again == config
    assert again.stream.size == (640, 480)
    assert isinstance(again.queue.max_rate, float)


def test_every_setting_describes_itself():
    for section in SECTIONS:
        assert section.name
        for item in dataclasses.fields(section):
            assert len(item.metadata["description"]) > 10, item.name
            assert item.default is not dataclasses.MISSING
            if isinstance(item.default, float) and not item.metadata["unit"]:
                assert item.name == "edge_tolerance"  # a share of depth, as its description says


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stream": {"chunk_sizes": 3}}, "did you mean stream.chunk_size"),
        ({"streams": {}}, "did you mean stream"),
        ({"stream": {"zzz": 3}}, "known: alignment"),
        ({"stream": {"chunk_size": 0}}, "stream.chunk_size is 0; it must be at least 1 and at most 1024"),
        ({"stream": {"chunk_size": "32"}}, "stream.chunk_size is '32'"),
        ({"stream": {"chunk_size": True}}, "stream.chunk_size is True"),
        ({"stream": {"chunk_size": 4, "overlap": 4}}, "stream.overlap is 4"),
        ({"stream": {"provisional_every": 32}}, "stream.provisional_every"),
        ({"stream": {"alignment": "sim4"}}, "none, se3, sim3"),
        ({"stream": {"resolution": "640,480"}}, "stream.resolution"),
        ({"stream": {"resolution": "0x480"}}, "stream.resolution"),
        ({"stream": {"max_gap": float("nan")}}, "finite"),
        ({"stream": {"max_gap": float("inf")}}, "finite"),
        ({"stream": {"max_gap": -1}}, "at least 0"),
        ({"stream": {"unit": 1e-7}}, "stream.unit is 1e-07; it must be 0, or at least 1e-06"),
        ({"queue": {"policy": "newest"}}, "latest, keep_all"),
        ({"queue": {"max_rate": 0.05}}, "stream.max_gap"),
        ({"cloud": {"min_range": 3, "max_range": 2}}, "cloud.max_range"),
        ({"cloud": {"min_confidence": 2}}, "probability"),
        ({"map": {"voxel_size": 0}}, "map.voxel_size"),
        ({"map": None}, "map is None"),
        ({"model": {"device": "gpu"}}, "model.device is 'gpu'; it must be auto, cpu, cuda or cuda:N"),
        ({"model": {"checkpoint": ""}}, "model.checkpoint"),
        ({"input": {"cameras": "front"}}, "input.cameras is 'front'; it must be a list of texts"),
        ({"input": {"cameras": []}}, "1 to 16 different names"),
        ({"input": {"cameras": ["front", "front"]}}, "1 to 16 different names"),
        ({"input": {"cameras": ["a/b"]}}, "letters, digits"),
        ({"frames": {"odom": "map"}}, "frames.odom"),
        ({"frames": {"base": ""}}, "frames.base"),
        ({"frames": {"camera_xyz": [0, "1", 2]}}, "a list of finite numbers"),
        ({"frames": {"extrinsic": "parameters", "camera_rpy": [0, 0]}}, "three numbers for each"),
        ({"output": {"map_file": "map.obj"}}, ".ply or .pcd"),
        ({"output": {"trajectory_file": ""}}, "output.trajectory_file"),
    ],
)
def test_a_mistake_is_named(values, message):
    with pytest.raises(ConfigError) as caught:
        NodeConfig.from_dict(values)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["stream: [", "- a\n- b", "3", "stream: !!python/object:os.system {}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "loger.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"loger\.yaml"):
        Config.from_yaml(path)
    with pytest.raises(ConfigError, match="missing"):
        Config.from_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize(("resolution", "small"), [("96x72", True), ("574x434", False), ("auto", False)])
def test_small_images_have_cloud_settings_of_their_own(resolution, small):
    suited = CloudConfig(**cloud_settings_for(StreamConfig(resolution=resolution)))
    expected = {"stride": 1, "edge_tolerance": 0.0, "min_confidence": 0.5} if small else {}
    assert suited == CloudConfig(**expected)


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "loger.yaml"
    path.write_text("")
    assert Config.from_yaml(path) == Config()


def test_what_a_network_was_not_trained_for_is_said():
    taught = {"chunk_size": 4, "overlap": 1, "resolution": "64x48", "pitch": 10}
    assert StreamConfig(**taught).unlike(taught) == ""
    assert StreamConfig(**taught | {"chunk_size": 8, "pitch": 10.0}).unlike(taught) == ""  # any chunk will do
    assert StreamConfig(overlap=9).unlike({}) == ""  # the published weights recommend nothing
    said = StreamConfig(**taught | {"overlap": 3, "resolution": "auto"}).unlike(taught)
    assert "stream.overlap is 3, but the checkpoint was trained with 1" in said
    assert "stream.resolution is auto" in said
    assert "pitch" not in said
