"""What the synthetic camera plays: its parameters, and the sequence made from them. Imports no ROS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from loger_ros.types import CAMERA_FRAME
from loger_ros.world.effects import PRESETS
from loger_ros.world.generate import generate
from loger_ros.world.named_sets import named_sequence
from loger_ros.world.playback import AT_END
from loger_ros.world.sequences import (
    BASE_FRAME,
    MOTIONS,
    PLACES,
    TRUTH_FRAME,
    WORLD_FRAME,
    Sequence,
    SequenceSpec,
)

NODE = "synthetic_camera"


@dataclass(frozen=True)
class Settings:
    """The parameters. hfov 0, camera_height 0 and a negative camera_pitch mean: drawn from the seed."""

    named_set: str = ""
    place: str = "rooms"
    motion: str = "robot"
    frames: int = 500
    closed: bool = False
    at_end: str = "bounce"
    split: str = "test"
    seed: int = 0
    index: int = 0
    width: int = 320
    height: int = 240
    hfov: float = 0.0
    camera_height: float = 0.0
    camera_pitch: float = -1.0
    movers: int = 0
    effects: str = "mild"
    rate: float = 10.0
    keep: bool = False
    device: str = "cpu"
    threads: int = 1
    best_effort: bool = False
    wait_for: int = 0
    publish_depth: bool = False
    publish_tf: bool = True
    wheel_odometry: bool = False
    wheel_noise: float = 0.02


ABOUT = {
    "named_set": "a named test set, such as robot_rooms: plays its sequence `index`; then only width, height "
    "and the parameters of playing and publishing have an effect",
    "place": f"kind of place: one of {', '.join(PLACES)}",
    "motion": f"how the camera moves: one of {', '.join(MOTIONS)}",
    "frames": "length of the sequence in frames",
    "closed": "let the sequence end where it began",
    "at_end": f"at the end of the sequence, one of {', '.join(AT_END)}: play it backwards, play it again "
    "(closed sequences only), or shut down",
    "split": "which textures: train, validation or test",
    "seed": "seed of the place, the path and the effects",
    "index": "number of the sequence within the seed or the named set",
    "width": "width of the images in pixels",
    "height": "height of the images in pixels",
    "hfov": "horizontal field of view in degrees; 0: drawn from 60 to 100",
    "camera_height": "height of a robot's camera above the ground in metres; 0: drawn from 0.2 to 1.2",
    "camera_pitch": "pitch of a robot's camera in degrees down; negative: drawn from 0 to 20",
    "movers": "number of walkers to place if there is room",
    "effects": f"effects of the camera: {', '.join(PRESETS)}",
    "rate": "images per second",
    "keep": "render all frames once, before the first image is sent, for rates that rendering cannot reach",
    "device": "device that renders: cpu or cuda",
    "threads": "number of threads of the CPU renderer",
    "best_effort": "publish images best-effort; otherwise reliable, which suits both kinds of subscribers",
    "wait_for": "number of subscribers to the images to wait for before starting",
    "publish_depth": "publish the true depth on depth/image, 32FC1 in metres",
    "publish_tf": f"publish /tf {WORLD_FRAME} → {TRUTH_FRAME}, and /tf_static {BASE_FRAME} → {CAMERA_FRAME}",
    "wheel_odometry": "publish noisy wheel odometry of a robot on wheel_odometry",
    "wheel_noise": "relative error of the wheel odometry, both per step and constant",
    "drop": "chance that an image is not published",
    "late": "chance that an image comes `late_by` seconds late, after newer ones",
    "late_by": "delay of late images in seconds",
    "duplicate": "chance that an image has the stamp of the previous one",
    "pause_every": "seconds between pauses of the images; 0: none",
    "pause_for": "length of a pause in seconds",
    "resize_every": "seconds after which the images switch between full and half size; 0: never",
    "jump_every": "seconds after which the stamps of the images jump by `jump_by`, or back; 0: never",
    "jump_by": "size of a jump of the stamps in seconds",
}


def check(settings: Settings) -> None:
    """Check what no other part checks."""
    if not 0.1 <= settings.rate <= 1000:
        raise ValueError(f"rate must be 0.1 to 1000 images per second, got {settings.rate}")
    if not 0 <= settings.wheel_noise <= 1:
        raise ValueError(f"wheel_noise must be 0 to 1, got {settings.wheel_noise}")
    if settings.threads < 1:
        raise ValueError(f"threads must be at least 1, got {settings.threads}")
    torch.set_num_threads(settings.threads)
    try:
        torch.zeros(1, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {settings.device!r} cannot be used ({reason}): choose cpu or cuda"
        ) from error


def make_sequence(settings: Settings) -> Sequence:
    if settings.effects not in PRESETS:
        raise ValueError(f"effects must be one of {', '.join(PRESETS)}, got {settings.effects!r}")
    if settings.named_set:
        return named_sequence(settings.named_set, settings.index, settings.width, settings.height)
    spec = SequenceSpec(
        place=settings.place,
        motion=settings.motion,
        frames=settings.frames,
        split=settings.split,
        closed=settings.closed,
        width=settings.width,
        height=settings.height,
        rate=settings.rate,
        movers=settings.movers,
        effects=PRESETS[settings.effects],
    )
    if settings.hfov > 0:
        spec = replace(spec, hfov=settings.hfov)
    if settings.camera_height > 0:
        spec = replace(spec, camera_height=settings.camera_height)
    if settings.camera_pitch >= 0:
        spec = replace(spec, camera_pitch=settings.camera_pitch)
    return generate(spec, settings.seed, settings.index)
