"""Frame by frame: follow corners from the keyframe, reject outliers, refine poses and depths together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from loger_ros.evaluation.classical.floor import Floor, levelled
from loger_ros.evaluation.classical.segment import LEAST, Segment
from loger_ros.evaluation.classical.starts import by_essential, on_plane, triangulated, turn_alone
from loger_ros.evaluation.classical.tracking import TrackerSettings, detect, follow, prepare
from loger_ros.geometry import exp_rotation, inverse, log_rotation, nearest_rotation

FEWEST = 6  # corners that must agree on a motion
RECENT = 50  # number of steps that are remembered


@dataclass(frozen=True)
class Settings:
    tracker: TrackerSettings
    noise: float  # pixels, standard deviation of a good observation
    longest: int  # frames from one keyframe to the next, at most
    fewest: float = 0.6  # share of the keyframe's corners; if fewer are left, a new keyframe is made
    tolerance: float = 3.0  # standard deviations beyond which an observation does not fit
    tilt: float = 0.3  # degrees, standard deviation of the tilt of a robot's camera
    lift: float = 0.004  # standard deviation of its height, as a share of it
    spread: float = 1.0  # standard deviation of an unknown inverse depth, relative to the usual one
    trust: float = 0.5  # factor on the certainty of depths from an earlier keyframe
    likely: float = 0.5  # share of the corners below the horizon that are on the floor
    flat: float = 0.02  # relative standard deviation of the floor's inverse depth
    stretch: float = 0.03  # standard deviation of the scale between keyframes, if a floor can correct it
    gain: float = 6.0  # nats by which another scale must explain the floor better
    first_parallax: float = 0.03  # monocular: image widths that corners must move before depths are used
    iterations: int = 4


# By image width, found by random search on sequences of the training split.
FLOOR_SETTINGS: dict[int, Settings] = {
    56: Settings(TrackerSettings(7, 1, 150, 2, 0.3, quality=0.01), noise=0.08, longest=4),
    112: Settings(
        TrackerSettings(11, 2, 200, 4, 0.4), noise=0.12, longest=6, tolerance=2.5, tilt=0.2, flat=0.03
    ),
    192: Settings(
        TrackerSettings(11, 3, 200, 8, 0.43, quality=0.01),
        noise=0.101,
        longest=5,
        fewest=0.4578,
        tolerance=3.5303,
        trust=0.6214,
    ),
    224: Settings(TrackerSettings(13, 3, 250, 7, 0.6), noise=0.2, longest=6),
}
_MONOCULAR = Settings(
    TrackerSettings(7, 2, 150, 3, 0.3, blur=0.5),
    noise=0.12,
    longest=16,
    tolerance=2.5,
    spread=4,
    trust=0.7,
    first_parallax=0.02,
)
MONOCULAR_SETTINGS: dict[int, Settings] = {
    56: replace(_MONOCULAR, tracker=TrackerSettings(7, 2, 200, 2, 0.3, blur=0.5), trust=0.9),
    96: Settings(
        TrackerSettings(7, 1, 118, 3.371, 0.4429, quality=0.0067, blur=0.1149),
        noise=0.1182,
        longest=21,
        fewest=0.4853,
        tolerance=2.0943,
        spread=6.982,
        trust=0.8234,
        first_parallax=0.01578,
    ),
    112: _MONOCULAR,
    224: replace(_MONOCULAR, tracker=TrackerSettings(11, 3, 200, 6, 0.5, blur=0.5)),
}


def settings_for(width: int, floor: bool) -> Settings:
    """The settings that were tuned for the nearest image width."""
    tuned = FLOOR_SETTINGS if floor else MONOCULAR_SETTINGS
    return tuned[min(tuned, key=lambda known: abs(np.log(known / width)))]


def floor_odometry(
    images: Iterable[np.ndarray],
    matrix: np.ndarray,
    height: float,
    pitch: float,
    settings: Settings | None = None,
) -> np.ndarray:
    """T_world_camera (F, 4, 4) in metres. ``matrix`` (3, 3): intrinsics; ``pitch``: degrees downwards."""
    return _Odometry(matrix, settings, (height, np.radians(pitch))).run(images)


def essential_odometry(
    images: Iterable[np.ndarray], matrix: np.ndarray, settings: Settings | None = None
) -> np.ndarray:
    """T_first_camera (F, 4, 4) in units of its own, kept from keyframe to keyframe by common corners."""
    return _Odometry(matrix, settings, None).run(images)


class _Odometry:
    def __init__(
        self, matrix: np.ndarray, settings: Settings | None, mount: tuple[float, float] | None
    ) -> None:
        self.matrix, self.given, self.mount = np.asarray(matrix, float), settings, mount
        self.rng = np.random.default_rng(0)
        self.velocity = np.eye(4)  # T_before_now of the last step
        self.steps: list[float] = []  # lengths of the last steps

    def run(self, images: Iterable[np.ndarray]) -> np.ndarray:
        poses: list[np.ndarray] = []
        for image in images:
            if not poses:
                self.settings = self.given or settings_for(image.shape[1], self.mount is not None)
                self.focal = float(self.matrix[0, 0])
                self.floor = self._floor()
                self.T_world_key = self._home()
                self.key = self.last = prepare(image, self.settings.tracker)
                self._begin(np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0))
                self.start = 0
                self.waiting = self.floor is None
                poses.append(self.T_world_key)
                continue
            grey = prepare(image, self.settings.tracker)
            if self._crowded():
                self._new_keyframe(poses)
            self._advance(grey)
            self.last = grey
            poses[self.start + 1 :] = [
                self.T_world_key @ self.segment.pose(f) for f in range(len(self.segment.R))
            ]
        return np.array(poses)

    # ---- prior knowledge -------------------------------------------------------------------------

    def _floor(self) -> Floor | None:
        if self.mount is None:
            return None
        height, pitch = self.mount
        s = self.settings
        return Floor.below(height, pitch, tilt=np.radians(s.tilt), lift=s.lift, likely=s.likely, flat=s.flat)

    def _home(self) -> np.ndarray:
        return np.eye(4) if self.floor is None else levelled(np.eye(4), self.floor.down, self.floor.height)

    # ---- keyframes --------------------------------------------------------------------------------

    def _crowded(self) -> bool:
        segment = self.segment
        if len(segment.R) == 0:
            return False
        left = segment.valid[-1].sum()
        if self.waiting:  # the camera turned away before it had moved: start over from here
            return left <= 0.3 * len(segment.rays)
        return len(segment.R) >= self.settings.longest or left <= self.settings.fewest * len(segment.rays)

    def _new_keyframe(self, poses: list[np.ndarray]) -> None:
        """Make the last frame the keyframe, and keep the corners that it still sees well."""
        segment, settings = self.segment, self.settings
        if not self.waiting:
            segment.solve(2 * settings.iterations)
        if self.floor is not None:
            doubt = 0.5 if self.start == 0 else 0.1
            factor = self.floor.best_scale(
                segment.rays @ segment.plane, *segment.measured(), doubt, settings.gain
            )
            if factor != 1:
                segment.rescale(factor)
                segment.solve(2 * settings.iterations)
        for f in range(len(segment.R)):
            poses[self.start + 1 + f] = self.T_world_key @ segment.pose(f)
        self.start = len(poses) - 1
        self.T_world_key = poses[-1] = self._level(poses[-1])
        self.key = self.last
        R, t = segment.R[-1], segment.t[-1]
        good = segment.valid[-1] & (segment.errors()[-1] < 1.5 * settings.tolerance * settings.noise)
        found, certainty = (values[good] for values in segment.measured())
        depth = np.maximum(segment.rays[good] @ R[2] + found * t[2], 0.05)  # new depth times found
        expected = found / depth
        if self.waiting:
            self._begin(np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0))
            return
        self._begin(self._pixels(segment.seen[-1][good]), expected, settings.trust * certainty * depth**4)

    def _level(self, T_world_key: np.ndarray) -> np.ndarray:
        """Same heading and position, the mount's height, and a tilt between the floor's and the mount's."""
        if self.floor is None:
            return T_world_key
        down = self.segment.R[-1] @ self.segment.plane
        down = down / np.linalg.norm(down) + self.floor.down
        return levelled(T_world_key, down, self.floor.height)

    def _begin(self, known: np.ndarray, expected: np.ndarray, certainty: np.ndarray) -> None:
        fresh = detect(self.key, known, self.settings.tracker)
        self.corners = np.concatenate([known, fresh]).astype(np.float32)
        rays = self._normalised(self.corners)
        rays = np.concatenate([rays, np.ones((len(rays), 1))], 1)
        unknown = 1.0 if self.floor is None else 0.3 / self.floor.height
        usual = float(np.median(expected)) if len(expected) > 5 else unknown
        expected = np.concatenate([np.maximum(expected, LEAST), np.full(len(fresh), usual)])
        new = np.arange(len(rays)) >= len(known)
        if self.floor is not None:
            below = new & self.floor.candidates(rays)
            expected[below] = (rays @ self.floor.plane)[below]
        least = (self.settings.spread * np.maximum(expected, 0.3 * usual)) ** -2.0
        certainty = np.maximum(np.concatenate([certainty, np.zeros(len(fresh))]), least)
        self.segment = Segment(
            rays,
            expected.copy(),
            expected,
            certainty,
            self.focal,
            self.settings.noise,
            self.floor,
            self.settings.stretch if self.floor is not None else 1e-4,
            np.zeros((0, 3, 3)),
            np.zeros((0, 3)),
            np.zeros((0, len(rays), 2)),
            np.zeros((0, len(rays)), bool),
        )
        self.at = self.corners.copy()  # where they were last seen, pixels
        self.alive = np.ones(len(rays), bool)

    # ---- one frame --------------------------------------------------------------------------------

    def _advance(self, grey: np.ndarray) -> None:
        segment, settings = self.segment, self.settings
        before = segment.pose(-1) if len(segment.R) else np.eye(4)
        likely = inverse(before @ self.velocity)
        likely[:3, :3] = nearest_rotation(likely[:3, :3])  # it is a product of thousands of rotations
        guess = self._pixels(segment.predict(likely[:3, :3], likely[:3, 3]))
        self._track(grey, guess)
        seen = self._normalised(self.at)
        valid = self.alive.copy()
        if self.waiting:
            R = turn_alone(segment.rays[valid], seen[valid], settings.noise / self.focal)
            segment.add(R, np.zeros(3), seen, valid)
            self._bootstrap()
            return
        starts = [(likely[:3, :3], likely[:3, 3])]
        sampled = self._sample(seen, valid)
        if sampled is not None:
            R, t, obeys = sampled
            starts.append((R, t))
            if self.floor is None and obeys.sum() > 0.4 * valid.sum():
                valid &= obeys
        held = inverse(before)
        starts.append((held[:3, :3], held[:3, 3]))
        segment.add(*starts[0], seen, valid)
        self._settle(starts)
        self._sort_out()
        step = inverse(before) @ segment.pose(len(segment.R) - 1)
        if not self._believable(step):
            segment.R[-1], segment.t[-1] = starts[0]
            segment.valid[-1] = False
            step = self.velocity
        self.steps = [*self.steps[-RECENT + 1 :], float(np.linalg.norm(step[:3, 3]))]
        self.velocity = step
        self.alive &= segment.valid[-1] | (segment.errors()[-1] < 3 * settings.tolerance * settings.noise)

    def _believable(self, step: np.ndarray) -> bool:
        """False for too few corners, or a jump that few corners confirm: then the last velocity is kept."""
        fits = int(self.segment.valid[-1].sum())
        if fits < FEWEST or not np.isfinite(step).all():
            return False
        leap = len(self.steps) > 10 and np.linalg.norm(step[:3, 3]) > 3 * max(self.steps) + 1e-9
        return not leap or fits > 0.3 * len(self.segment.rays)

    def _bootstrap(self) -> None:
        """Find the first depths. Without a known height, the camera must have moved enough for that."""
        segment, settings = self.segment, self.settings
        last, valid = len(segment.R) - 1, np.flatnonzero(segment.valid[-1])
        tolerance = settings.tolerance * settings.noise / self.focal
        found = triangulated(segment.rays[valid], segment.seen[-1][valid], tolerance)
        if found is None:
            return
        R, t, inverse_depth, parallax, obeys = found
        if self.focal * parallax < settings.first_parallax * self.key.shape[1]:
            return
        self.waiting = False
        usual = float(np.median(inverse_depth[obeys]))
        segment.inverse_depth[:] = 1.0
        segment.inverse_depth[valid] = np.clip(inverse_depth / usual, 0.02, 20)
        segment.valid[-1][valid[~obeys]] = False
        turn = log_rotation(R)
        for f in range(last + 1):
            share = (f + 1) / (last + 1)
            segment.R[f], segment.t[f] = exp_rotation(share * turn), share * t * usual
        segment.certainty = np.full(len(segment.rays), 0.1)
        segment.solve(10 * settings.iterations)
        segment.valid &= segment.errors() < 2 * settings.tolerance * settings.noise
        segment.solve(10 * settings.iterations)
        self.velocity = np.eye(4)
        if last:
            self.velocity = inverse(segment.pose(last - 1)) @ segment.pose(last)

    def _track(self, grey: np.ndarray, guess: np.ndarray) -> None:
        """Track from the last image, then once more from the keyframe, so that errors do not accumulate."""
        size = np.array([grey.shape[1], grey.shape[0]])
        index = np.flatnonzero(self.alive)
        guess = np.clip(guess[index], -2, size + 1)
        points, ok = follow(self.last, grey, self.at[index], guess, self.settings.tracker)
        if len(self.segment.R):
            exact, good = follow(self.key, grey, self.corners[index], points, self.settings.tracker, 0)
            near = np.linalg.norm(exact - points, axis=1) < self.settings.tracker.window / 4
            points, ok = exact, ok & good & near
        self.at[index[ok]] = points[ok]
        self.alive[index[~ok]] = False

    def _sample(
        self, seen: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        segment = self.segment
        if self.floor is not None:
            valid = valid & self.floor.candidates(segment.rays)
        index = np.flatnonzero(valid)
        tolerance = self.settings.tolerance * self.settings.noise / self.focal
        if self.floor is None:
            found = by_essential(segment.rays[index], seen[index], segment.inverse_depth[index], tolerance)
        else:
            found = on_plane(segment.rays[index], seen[index], self.floor, 2 * tolerance, self.rng)
        if found is None:
            return None
        R, t, obeys = found
        whole = np.zeros(len(seen), bool)
        whole[index[obeys]] = True
        return R, t, whole

    def _settle(self, starts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Solve from the best of the starts. The others are tried only if the likely one does not fit."""
        segment, settings = self.segment, self.settings
        frame = len(segment.R) - 1
        results = []
        before = segment.inverse_depth, segment.plane, segment.factor, segment.R, segment.t
        for R, t in starts:
            segment.inverse_depth, segment.plane, segment.factor, segment.R, segment.t = before
            segment.R, segment.t = segment.R.copy(), segment.t.copy()
            segment.R[frame], segment.t[frame] = R, t
            cost = segment.solve(settings.iterations, first=frame)
            end = segment.inverse_depth, segment.plane, segment.factor, segment.R, segment.t
            results.append((cost, end))
            fits = segment.errors()[frame][segment.valid[frame]] < settings.tolerance * settings.noise
            if len(results) == 1 and len(fits) and fits.mean() > 0.8:
                break
        best = min(results, key=lambda result: result[0])[1]
        segment.inverse_depth, segment.plane, segment.factor, segment.R, segment.t = best
        segment.solve(settings.iterations)

    def _sort_out(self) -> None:
        """Drop observations that do not fit."""
        segment, settings = self.segment, self.settings
        segment.valid[-1] &= segment.errors()[-1] < 2 * settings.tolerance * settings.noise
        segment.solve(2)

    def _normalised(self, pixels: np.ndarray) -> np.ndarray:
        m = self.matrix
        return (np.asarray(pixels, float) - m[:2, 2]) / np.array([m[0, 0], m[1, 1]])

    def _pixels(self, normalised: np.ndarray) -> np.ndarray:
        m = self.matrix
        return (normalised * np.array([m[0, 0], m[1, 1]]) + m[:2, 2]).astype(np.float32)
