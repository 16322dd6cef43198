"""What package.xml and setup.py declare against what the code is and imports."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from test_layers import PACKAGE, is_ros, package_imports

import loger_ros

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text()

# Import name → (pip's name, rosdep's key); safetensors has no key.
REQUIRED = {
    "cv2": ("opencv-python-headless", "python3-opencv"),
    "numpy": ("numpy", "python3-numpy"),
    "PIL": ("pillow", "python3-pil"),
    "safetensors": ("safetensors", None),
    "torch": ("torch", "python3-pytorch-pip"),
    "yaml": ("pyyaml", "python3-yaml"),
}
# Imported where they are used, with a message where they are missing.
OPTIONAL = {
    "evo",
    "flash_attn",
    "flash_attn_interface",
    "matplotlib",
    "mcap",
    "ray",
    "rosbags",
    "scipy",
    "tqdm",
}


@pytest.fixture(scope="module")
def manifest() -> object:
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="comes with colcon-ros")
    package = catkin_pkg.parse_package(str(ROOT))  # raises where it does not validate
    package.validate()
    return package


def test_package_xml_validates_without_a_warning(manifest: object) -> None:
    warnings: list[str] = []
    manifest.validate(warnings=warnings)
    assert not warnings
    assert manifest.package_format == 3
    assert manifest.get_build_type() == "ament_python"
    assert manifest.licenses == ["Apache-2.0"]


def test_the_build_needs_what_rosdep_knows(manifest: object) -> None:
    """ament_python is the type of the build; rosdep cannot resolve it as a dependency."""
    assert [dependency.name for dependency in manifest.buildtool_depends] == ["python3-setuptools"]


def test_one_version_everywhere(manifest: object) -> None:
    assert manifest.version == loger_ros.__version__
    assert f'version="{loger_ros.__version__}"' in SETUP


def test_every_ros_package_that_is_imported_is_declared(manifest: object) -> None:
    declared = {dependency.name for dependency in manifest.exec_depends}
    imported = {
        module.split(".")[0] for modules in package_imports().values() for module in modules if is_ros(module)
    }
    assert "rclpy" in imported
    assert imported <= declared
    named = {"cv_bridge", "sensor_msgs_py", "tf_transformations", "tf2_ros", "rviz2", "launch_ros"}
    assert named <= declared


def test_every_other_import_is_declared(manifest: object) -> None:
    declared = {dependency.name for dependency in manifest.exec_depends}
    tops = {module.split(".")[0] for modules in package_imports().values() for module in modules}
    foreign = {top for top in tops - set(sys.stdlib_module_names) - {"loger_ros", ""} if not is_ros(top)}
    assert foreign <= {*REQUIRED, *OPTIONAL}
    for pip_name, rosdep_key in REQUIRED.values():
        assert re.search(rf'"{pip_name}>=', SETUP), pip_name
        assert rosdep_key is None or rosdep_key in declared


def test_every_module_belongs_to_a_package() -> None:
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
