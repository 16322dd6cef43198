"""From a curve to a camera pose per frame: how fast, how steadily, how the camera is held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loger_ros.world.paths.routes import STEP, Curve


@dataclass(frozen=True)
class Pace:
    step: float  # metres per frame on a straight
    turn: float  # radians per frame in a turn
    stops: float  # chance of a stop per metre
    unevenness: float  # 0: constant speed


@dataclass(frozen=True)
class Mount:
    """How a robot carries its camera."""

    height: float  # metres above the ground
    pitch: float  # degrees downwards
    forward: float = 0.0  # metres ahead of the turning point
    shake: float = 0.0  # degrees, deviation of the vibration while driving

    def transform(self) -> np.ndarray:
        """T_base_camera."""
        p = np.radians(self.pitch)
        mount = np.eye(4)
        mount[:3, 0] = (0, -1, 0)
        mount[:3, 1] = (-np.sin(p), 0, -np.cos(p))
        mount[:3, 2] = (np.cos(p), 0, -np.sin(p))
        mount[:3, 3] = (self.forward, 0, self.height)
        return mount


def smooth_noise(rng: np.random.Generator, count: int, period: float) -> np.ndarray:
    """Deviation about 1, no frequency far above 1 / period (in samples)."""
    knots = rng.standard_normal(int(count / period) + 5)
    at = np.arange(count) / period
    i = at.astype(int)
    t = at - i
    p0, p1, p2, p3 = (knots[i + k] for k in range(4))
    return 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )


def timeline(
    costs: np.ndarray, halts: np.ndarray, pace: Pace, rng: np.random.Generator, frames: int
) -> tuple[np.ndarray, int]:
    """Sample numbers (F,), fractional, and how many frames the whole path would take.

    ``costs`` (M - 1,): frames from sample to sample at full pace. At ``halts`` the robot brakes and waits.
    The path ends at a standstill.
    """
    when = np.concatenate([[0.0], np.cumsum(costs)])
    stops = np.sort(np.concatenate([when[halts], [when[-1]]]))
    waits = rng.integers(0, 3, len(stops)) + (rng.random(len(stops)) < 0.25) * rng.integers(5, 20, len(stops))
    bound = int(when[-1] * 3 + 12 * len(stops)) + frames + 100
    noise = 1 - pace.unevenness * np.abs(smooth_noise(rng, min(bound, max(frames, 4000)), 25.0))
    reached: list[float] = []
    now, speed, stop, waiting = 0.0, 0.3, 0, 0
    for k in range(bound):
        reached.append(now)
        if stop >= len(stops):
            break
        if waiting > 0:
            waiting -= 1
            continue
        rest = stops[stop] - now
        wish = min(max(0.4, noise[k % len(noise)]), max(0.15, np.sqrt(0.3 * rest)))
        speed = min(wish, speed + 0.15)
        if rest <= speed:
            now, speed = float(stops[stop]), 0.0
            waiting = int(waits[stop])
            stop += 1
            while stop < len(stops) and stops[stop] <= now:
                stop += 1
        else:
            now += speed
    progress = np.full(frames, when[-1])
    progress[: len(reached)] = reached[:frames]
    return np.interp(progress, when, np.arange(len(when))), len(reached)


def drive(
    curve: Curve, mount: Mount, pace: Pace, rng: np.random.Generator, frames: int
) -> tuple[np.ndarray, int]:
    """A robot follows the curve: T_world_camera (F, 4, 4), and how many frames the whole curve would take."""
    step = np.linalg.norm(np.diff(curve.position, axis=0), axis=1)
    turn = np.abs(np.diff(curve.yaw))
    costs = np.maximum(step / pace.step, turn / pace.turn)
    halts = np.unique(np.concatenate([curve.breaks, _stops(rng, step, pace.stops)])).astype(int)
    halts = halts[(halts > 0) & (halts < len(costs))]
    at, needed = timeline(costs, halts, pace, rng, frames)
    index = np.arange(len(curve.yaw))
    x, y = (np.interp(at, index, curve.position[:, i]) for i in (0, 1))
    yaw = np.interp(at, index, curve.yaw)
    base = _body(np.stack([x, y, np.zeros_like(x)], 1), yaw, np.zeros_like(x), np.zeros_like(x))
    moved = (
        np.linalg.norm(np.diff(base[:, :3, 3], axis=0), axis=1) / pace.step + np.abs(np.diff(yaw)) / pace.turn
    )
    effort = np.concatenate([[0.0], np.clip(moved, 0, 1)])
    effort[-1] = 0.0
    shaken = _shaken(mount.transform(), rng, effort, np.radians(mount.shake))
    return base @ shaken, needed


def carry(
    curve: Curve, low: float, high: float, look: float, pace: Pace, rng: np.random.Generator, frames: int
) -> tuple[np.ndarray, int]:
    """A handheld camera or one on a drone: ``low`` to ``high`` metres up, looking ``look`` degrees around.

    Returns the same as :func:`drive`.
    """
    still = np.concatenate([[True], np.linalg.norm(np.diff(curve.position, axis=0), axis=1) > STEP / 10])
    position = curve.position[still]
    count = len(position)
    wide = np.ones(101) / 101

    def eased(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, 100, mode="edge")
        return np.convolve(np.convolve(padded, wide, "valid"), wide, "valid")

    def wave(period: float, amplitude: float) -> np.ndarray:
        envelope = np.minimum(
            1, np.minimum(np.arange(count), np.arange(count)[::-1]) * STEP
        )  # rest at both ends
        return amplitude * envelope * np.clip(smooth_noise(rng, count, period / STEP), -2, 2)

    middle = rng.uniform(low + 0.3 * (high - low), high - 0.3 * (high - low))
    z = np.clip(middle + wave(1.5, (high - low) / 5), low, high)
    yaw = eased(curve.yaw[still])
    if np.allclose(position[0], position[-1]):  # a loop: come to rest in the direction it began in
        late = np.clip((np.arange(count) - (count - 1)) * STEP / 2 + 1, 0, 1)
        yaw += ((yaw[0] - yaw[-1] + np.pi) % (2 * np.pi) - np.pi) * late**2 * (3 - 2 * late)
    yaw += wave(1.6, np.radians(look) / 2)
    pitch = np.radians(rng.uniform(-2, 10)) + wave(1.3, np.radians(7))
    roll = wave(1.1, np.radians(3))
    step = np.hypot(np.linalg.norm(np.diff(position, axis=0), axis=1), np.diff(z))
    turn = np.sqrt(np.diff(yaw) ** 2 + np.diff(pitch) ** 2 + np.diff(roll) ** 2)
    costs = np.maximum(step / pace.step, turn / pace.turn)
    halts = _stops(rng, step, pace.stops)
    at, needed = timeline(costs, halts[(halts > 0) & (halts < len(costs))], pace, rng, frames)
    index = np.arange(count)
    columns = [np.interp(at, index, values) for values in (*position.T, z, yaw, pitch, roll)]
    tremor = np.ones(frames)
    tremor[0] = tremor[-1] = 0.0
    base = _body(np.stack(columns[:3], 1), *columns[3:]) @ _shaken(np.eye(4), rng, tremor, np.radians(0.12))
    return base @ Mount(0.0, 0.0).transform(), needed


def _stops(rng: np.random.Generator, step: np.ndarray, chance: float) -> np.ndarray:
    return np.flatnonzero(rng.random(len(step)) < chance * step)


def _body(position: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """T_world_base from yaw, pitch (nose down positive) and roll, z-y-x. (F, 4, 4)"""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    pose = np.tile(np.eye(4), (len(yaw), 1, 1))
    pose[:, 0, :3] = np.stack([cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr], 1)
    pose[:, 1, :3] = np.stack([sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr], 1)
    pose[:, 2, :3] = np.stack([-sp, cp * sr, cp * cr], 1)
    pose[:, :3, 3] = position
    return pose


def _shaken(mount: np.ndarray, rng: np.random.Generator, effort: np.ndarray, deviation: float) -> np.ndarray:
    """The mount, trembling a little about all axes and up and down. (F, 4, 4)"""
    frames = len(effort)
    angles = [deviation * effort * smooth_noise(rng, frames, 2.5) for _ in range(3)]
    lift = 0.1 * deviation * effort * smooth_noise(rng, frames, 2.5)
    tremble = _body(np.zeros((frames, 3)), *angles)
    shaken = mount @ tremble
    shaken[:, 2, 3] += lift
    return shaken
