"""Make a sequence: build the walls, find a path, furnish around it, check that nothing is in the way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from loger_ros.world.camera import Camera
from loger_ros.world.paths.routes import STEP, curve, walk
from loger_ros.world.paths.trajectories import Mount, Pace, carry, drive
from loger_ros.world.places.blocks import blocks
from loger_ros.world.places.builder import Builder
from loger_ros.world.places.furnish import furnish
from loger_ros.world.places.ground import Ground
from loger_ros.world.places.layout import Layout
from loger_ros.world.places.light import light_map
from loger_ros.world.places.rooms import rooms
from loger_ros.world.scene import Scene
from loger_ros.world.sequences import ANGLES, FIRST_STAMP, PITCHES, Sequence, SequenceSpec

CLEARANCE = 0.4  # metres between the path and what is put beside it
LEAST_CLEARANCE = 0.12  # metres between the camera and any surface, checked at the end
ATTEMPTS = 60
LEAD = 8.0  # metres: an open path begins up to this far along a walk, not always at a junction
WANDER = {"rooms": 0.15, "corridor": 0.05, "street": 0.6}  # metres to the side of the straight path


def generate(spec: SequenceSpec, seed: int, index: int = 0) -> Sequence:
    """The same arguments give the same sequence, everywhere."""
    for attempt in range(ATTEMPTS):
        sequence = _attempt(spec, seed, index, attempt)
        if sequence is not None:
            return sequence
    closed, ask = (" closed", "more") if spec.closed else ("", "another number of")
    raise ValueError(
        f"no{closed} path of {spec.frames} frames without collision found ({spec.place}, {spec.motion}, seed "
        f"{seed}, index {index}) in {ATTEMPTS} attempts: ask for {ask} frames or another seed"
    )


def _attempt(spec: SequenceSpec, seed: int, index: int, attempt: int) -> Sequence | None:
    rng = np.random.default_rng([seed, index, attempt])
    hfov = spec.hfov if spec.hfov is not None else rng.uniform(*ANGLES)
    camera = Camera.from_fov(spec.width, spec.height, hfov, spec.distortion)
    builder, layout = _build(spec, rng)
    planned = _plan(spec, layout, rng)
    if planned is None:
        return None
    poses, mount = planned
    path = poses[:, :2, 3]
    furnish(builder, layout, Ground(path, CLEARANCE), spec.movers)
    shapes = builder.shapes()
    indoors = layout.ceiling is not None
    scene = Scene(
        kind=spec.place,
        split=spec.split,
        shapes=shapes,
        light=light_map(layout, shapes, builder.sun, rng),
        sun=builder.sun,
        ambient=builder.ambient,
        haze=np.array([0.62, 0.6, 0.58]) if indoors else np.array([0.8, 0.85, 0.9]),
        haze_distance=60.0 if indoors else 90.0,
    )
    if clearance(scene, poses[:, :3, 3]).min() < LEAST_CLEARANCE:
        return None
    stamps = FIRST_STAMP + np.round(np.arange(spec.frames) * (1e9 / spec.rate)).astype(np.int64)
    return Sequence(spec, seed, index, scene, camera, poses, mount, stamps)


def _build(spec: SequenceSpec, rng: np.random.Generator) -> tuple[Builder, Layout]:
    angle = rng.uniform(0, 2 * np.pi)
    rise = np.radians(rng.uniform(35, 60))
    sun = np.array([np.cos(angle) * np.cos(rise), np.sin(angle) * np.cos(rise), np.sin(rise)])
    outdoors = spec.place == "street"
    builder = Builder(rng, spec.split, sun, 0.55 if outdoors else 0.68)
    long = spec.frames > 300
    margin = 0.6
    if spec.place == "rooms":
        columns, rows = (int(rng.integers(2, 4)), 2) if long else (2, 1)
        return builder, rooms(builder, columns, rows, margin)
    columns, rows = (2, int(rng.integers(1, 3))) if long else (1, 1)
    return builder, blocks(builder, columns, rows, 2.6 if outdoors else margin, outdoors)


def _plan(
    spec: SequenceSpec, layout: Layout, rng: np.random.Generator
) -> tuple[np.ndarray, Mount | None] | None:
    """Try paths of varying length until one lasts as many frames as requested."""
    robot = spec.motion == "robot"
    pace = Pace(
        step=rng.uniform(0.04, 0.075),
        turn=np.radians(rng.uniform(1.5, 2.8) if robot else rng.uniform(1.5, 2.5)),
        stops=rng.choice([0.0, 0.05, 0.15]),
        unevenness=rng.uniform(0.05, 0.25),
    )
    mount = Mount(
        height=spec.camera_height if spec.camera_height is not None else rng.uniform(0.2, 1.2),
        pitch=spec.camera_pitch if spec.camera_pitch is not None else rng.uniform(*PITCHES),
        forward=rng.uniform(0, 0.15),
        shake=rng.choice([0.0, rng.uniform(0, 0.3)]),
    )
    if spec.camera_shake is not None:  # drawn above even so, so that the path stays the same
        mount = replace(mount, shake=spec.camera_shake)
    if spec.camera_forward is not None:
        mount = replace(mount, forward=spec.camera_forward)
    low, high = (0.8, 1.9) if spec.motion == "handheld" else (0.7, 1.9 if layout.ceiling else 4.5)
    look = rng.uniform(20, 60) if spec.motion == "handheld" else rng.uniform(10, 30)
    tight, reverse = rng.uniform(0, 0.6), rng.choice([0.0, 0.06, 0.15])
    lead = 0.0 if spec.closed else rng.uniform(0, LEAD)
    length = lead + spec.frames * pace.step * 0.7 + 0.5
    wander = WANDER[layout.kind]
    for _ in range(30):
        way = walk(layout, rng, length, spec.closed)
        if len(way) < 2 or np.linalg.norm(np.diff(way, axis=0), axis=1).min() < 1e-6:
            length *= 1.1
            continue
        smooth = curve(way, rng, tight if robot else 0.0, wander, reverse if robot else 0.0, spec.closed)
        smooth = smooth.after(min(int(lead / STEP), len(smooth.yaw) // 2))
        if robot:
            poses, needed = drive(smooth, mount, pace, rng, spec.frames)
        else:
            poses, needed = carry(smooth, low, high, look, pace, rng, spec.frames)
        if needed < spec.frames * (0.85 if spec.closed else 1.0):
            length *= min(1.5, max(1.05, 0.95 * spec.frames / needed))
        elif spec.closed and needed > spec.frames:
            length *= max(0.6, min(0.97, 0.9 * spec.frames / needed))
        else:
            return poses, mount if robot else None
    return None


def clearance(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Least distance of each point (P, 3) from any shape, 0 or less inside; movers anywhere on their path."""
    least = np.full(len(points), math.inf)
    for kind, group in scene.shapes.items():
        for centre, half, yaw, sweep in zip(group.centre, group.half, group.yaw, group.sweep, strict=True):
            offset = points - centre
            if sweep[:3].any():  # nearest place of its swing
                t = np.clip(offset @ sweep[:3] / (sweep[:3] @ sweep[:3]), -1, 1)
                offset = offset - t[:, None] * sweep[:3]
            cos, sin = math.cos(yaw), math.sin(yaw)
            local = np.abs(
                np.stack(
                    [
                        cos * offset[:, 0] + sin * offset[:, 1],
                        cos * offset[:, 1] - sin * offset[:, 0],
                        offset[:, 2],
                    ],
                    1,
                )
            )
            if kind == "box":
                distance = np.linalg.norm(np.maximum(local - half, 0), axis=1)
            elif kind == "cylinder":
                out = np.maximum(np.hypot(local[:, 0], local[:, 1]) - half[0], 0)
                distance = np.hypot(out, np.maximum(local[:, 2] - half[2], 0))
            else:  # a bound that is exact for spheres
                distance = (np.linalg.norm(local / half, axis=1) - 1) * half.min()
            least = np.minimum(least, distance)
    return least
