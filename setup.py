"""The package for colcon (ament_python) and pip alike; pyproject.toml holds only settings of the tools."""

import os
from glob import glob

from setuptools import find_packages, setup

NAME = "loger_ros"


def ros_wheels(rclpy: str, messages: str) -> list:
    """ROS 2 from PyPI. Each message package needs its own pin, or pip takes the newest distribution's."""
    names = ("diagnostic-msgs", "geometry-msgs", "nav-msgs", "sensor-msgs", "std-msgs", "std-srvs")
    return [f"ros-rclpy[fastrtps]~={rclpy}", *(f"ros-{name}~={messages}" for name in names)]


def shared(*folders: str) -> list:
    """Every file below these folders, for the same place below our share folder."""
    found = {}
    for folder in folders:
        for file in sorted(glob(f"{folder}/**/*.*", recursive=True)):
            if "__pycache__" not in file:
                found.setdefault(f"share/{NAME}/{os.path.dirname(file)}", []).append(file)
    return list(found.items())


setup(
    name=NAME,
    version="0.1.0",
    description="Camera-only odometry and mapping for ROS 2 with a feed-forward network that remembers",
    author="The loger_ros authors",
    maintainer="The loger_ros authors",
    maintainer_email="loger_ros@users.noreply.github.com",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["checkpoints/*"]},
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.21",
        "opencv-python-headless>=4.5.4",
        "pillow>=9",
        "pyyaml>=6",
        "safetensors>=0.4",
        "torch>=2.4",
    ],
    extras_require={
        # ROS 2 itself, where no ROS 2 is installed. One of the two; never on a machine with a sourced ROS 2.
        "kilted": ros_wheels("9.1.2", "5.5.1"),
        "jazzy": ros_wheels("7.1.6", "5.3.6"),
        "test": [
            "colcon-bash",
            "colcon-package-information",
            "colcon-package-selection",
            "colcon-ros",
            "evo",
            "hypothesis",
            "pytest>=6.2",
            "pytest-xdist",
            "rosbags",
            "scipy",
            "setuptools<80",  # later ones cannot do colcon build --symlink-install
        ],
        "evaluation": ["matplotlib", "rosbags"],  # plots and bags of loger eval, replay and export
        "ray": ["ray>=2.9"],  # loger eval --engine ray: several machines or GPUs
        "lint": ["mypy", "ruff", "types-PyYAML"],
    },
    # Beside the code: found by loger_ros.share in a colcon workspace, a pip environment and the checkout.
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", "config", "rviz"),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "loger = loger_ros.cli:main",
            "loger_node = loger_ros.ros.node:main",
            "synthetic_camera = loger_ros.ros.synthetic.camera:main",
        ],
    },
)
