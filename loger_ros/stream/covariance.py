"""How far a pose may be off, from how much two chunks disagree about the frames they share.

Each chunk is assumed to give the pose of a frame with a small independent error of covariance S in the
camera's own axes. Two chunks joined at one of k shared frames then differ at the others by 4 S (two errors
at the join, two at the frame); joined at all of them, by 2 S (k - 1)/k; not joined, by 2 S. So the mean
square of the differences gives S. Each join adds 2 S (2 S/k if at all frames) to everything after it, carried
along by the adjoint of the motion; each frame adds its own S.
If a join also finds a scale (sim3, robust), its error makes everything after it too long or too short; how
much the shared frames differ in it shows how exact it is. So what is carried has a seventh number.
Between segments, when nothing was seen, the camera may have moved at a walking pace and turned freely.
A frame whose mean confidence is lower than usual counts as proportionally worse. docs/covariance.md has the
derivation and what it cannot detect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from loger_ros.geometry import adjoint, difference, inverse

FORGET = 0.95  # weight of earlier knowledge at each join: in effect, the last twenty joins count
PRIOR_WEIGHT = 3.0  # how many disagreements the prior is worth at first
PRIOR_ROTATION = np.deg2rad(0.5)
PRIOR_TRANSLATION = 0.02  # of the chunk's path length
PRIOR_SCALE = 0.01  # of the scale that one frame gives
UNKNOWN_SCALE = 0.5  # of the log scale, if no pixel of the shared frames gives it
LEAST = 1e-3  # rad and map units: no pose is claimed to be more exact
LEAST_CONFIDENCE = 0.01
UNSEEN_SPEED, UNSEEN_TURN = 1.0, 1.0  # map units and rad, per second in which nothing was seen
MOST_UNSEEN = 60.0  # s: a longer gap, or a clock that went back, counts as this one


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """An immutable value: ``after_chunk`` returns the next one."""

    alignment: str  # as in StreamConfig
    moment: np.ndarray | None = None  # (6, 6) sum of S as the disagreements give it
    weight: float = 0.0
    prior_weight: float = PRIOR_WEIGHT
    confidence: float = 0.0  # sum, with the same weight, of the mean confidence of shared frames
    scale_moment: float = (
        0.0  # sum, with the weight below, of squared differences of the log scales of shared frames
    )
    scale_weight: float = 0.0
    T_map_join: np.ndarray | None = None  # (4, 4) the camera at the newest join
    # (7, 7) covariance of everything placed there, in that camera's axes; the last axis is the log scale
    at_join: np.ndarray | None = None
    begun: bool = False  # whether the segment has had a chunk
    path: float = 0.0  # length of the chunk before: a growing chunk, or a tail, is no surer for being short

    def after_chunk(
        self,
        T_map_camera: np.ndarray,
        confidence: np.ndarray,
        T_map_shared: np.ndarray,
        scales: Sequence[float] = (),
        by_one: bool = False,
    ) -> tuple[np.ndarray, Uncertainty]:
        """Return covariances (n, 6, 6) in the axes of the map, and the next value.

        T_map_camera (n, 4, 4): the chunk as placed. confidence (n,): means in [0, 1]. T_map_shared (k, 4, 4):
        the poses that the chunk before gave its first k frames. scales: the scale that each of these gives,
        if the join has one. by_one: with "none", it was joined at the first of them and not by the memory.
        """
        by_one = self.alignment in ("se3", "sim3") or (by_one and self.alignment == "none")
        known = self._learned(T_map_camera, confidence, T_map_shared, by_one)._scales_learned(scales)
        noise = known.noise(T_map_camera)
        known = replace(known, begun=True)
        usual = known.confidence / known.weight if known.weight else float(confidence.mean())
        worse = np.maximum(max(usual, LEAST_CONFIDENCE) / np.maximum(confidence, LEAST_CONFIDENCE), 1)  # (n,)
        if len(T_map_shared) or self.begun:  # without a shared frame, the memory joins
            heard = max(len(T_map_shared), 1) if self.alignment == "robust" else 1
            added = np.zeros((7, 7))
            added[:6, :6] = 2 / heard * worse[0] * noise
            if self.alignment in ("sim3", "robust"):
                told = min(heard, len(scales))
                added[6, 6] = known._scale_noise / told if told else UNKNOWN_SCALE**2
            known = known._joined((*T_map_shared, T_map_camera[0])[0], added)
        own = worse[:, None, None] * noise
        if known.T_map_join is not None:
            carry = _carry(inverse(T_map_camera) @ known.T_map_join)
            own = own + (carry @ known.at_join @ carry.swapaxes(-1, -2))[:, :6, :6]
        turn = np.zeros((len(T_map_camera), 6, 6))
        turn[:, :3, :3] = turn[:, 3:, 3:] = T_map_camera[:, :3, :3]
        return turn @ own @ turn.swapaxes(-1, -2), known

    def walked(self, T_map_camera: np.ndarray) -> Uncertainty:
        """Return the value after a complete chunk, with the length of its path."""
        return replace(self, path=_length(T_map_camera))

    def new_segment(self) -> Uncertainty:
        """Return the value for a segment unconnected to the last one; what was learned about S stays."""
        return replace(self, T_map_join=None, at_join=None, begun=False)

    def after_unseen(self, T_map_camera: np.ndarray, covariance: np.ndarray, seconds: float) -> Uncertainty:
        """Return the value for a segment that starts where the last ended, at this pose and covariance."""
        seconds = min(seconds, MOST_UNSEEN) if seconds >= 0 else MOST_UNSEEN
        moved = np.repeat([UNSEEN_SPEED * seconds, min(UNSEEN_TURN * seconds, np.pi)], 3) ** 2
        turn, at_join = np.zeros((6, 6)), np.zeros((7, 7))
        turn[:3, :3] = turn[3:, 3:] = T_map_camera[:3, :3].T
        at_join[:6, :6] = turn @ covariance @ turn.T + np.diag(moved)
        if self.alignment in ("sim3", "robust"):  # the new memory has a scale of its own
            at_join[6, 6] = UNKNOWN_SCALE**2
        return replace(self, T_map_join=T_map_camera, at_join=at_join)

    def _learned(
        self, poses: np.ndarray, confidence: np.ndarray, shared: np.ndarray, by_one: bool
    ) -> Uncertainty:
        first = 1 if by_one else 0  # such a join makes its own frame agree
        compared = len(shared) - first
        told = compared - (self.alignment == "robust")  # the join itself used one of them up
        if told <= 0:
            return self
        errors = difference(shared[first:], poses[first : len(shared)])  # (compared, 6)
        moment = errors.T @ errors / (4 if by_one else 2)
        return replace(
            self,
            moment=moment if self.moment is None else FORGET * self.moment + moment,
            weight=FORGET * self.weight + told,
            prior_weight=FORGET * self.prior_weight,
            confidence=FORGET * self.confidence + told * float(confidence[first : len(shared)].mean()),
        )

    def _scales_learned(self, scales: Sequence[float]) -> Uncertainty:
        if len(scales) < 2:
            return self
        logarithms = np.log(scales)
        return replace(
            self,
            scale_moment=FORGET * self.scale_moment + float(((logarithms - logarithms.mean()) ** 2).sum()),
            scale_weight=FORGET * self.scale_weight + len(scales) - 1,
        )

    @property
    def _scale_noise(self) -> float:
        """Variance of the log scale that one shared frame gives."""
        total = PRIOR_WEIGHT + self.scale_weight
        return (PRIOR_WEIGHT * PRIOR_SCALE**2 + self.scale_moment) / total

    def noise(self, poses: np.ndarray) -> np.ndarray:
        """Return S (6, 6): the prior, outweighed and in the end forgotten in favour of what was observed."""
        path = max(_length(poses), self.path)
        prior = np.repeat([PRIOR_TRANSLATION * path, PRIOR_ROTATION], 3) ** 2
        total = self.prior_weight + self.weight
        noise = np.diag(self.prior_weight / total * prior + LEAST**2)
        return noise if self.moment is None else noise + self.moment / total

    def _joined(self, T_map_join: np.ndarray, added: np.ndarray) -> Uncertainty:
        if self.T_map_join is None or self.at_join is None:
            return replace(self, T_map_join=T_map_join, at_join=added)
        carry = _carry(inverse(T_map_join) @ self.T_map_join)
        return replace(self, T_map_join=T_map_join, at_join=carry @ self.at_join @ carry.T + added)


def _length(poses: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1).sum())


def _carry(T_camera_join: np.ndarray) -> np.ndarray:
    """(..., 4, 4) → (..., 7, 7): what a small motion and scaling at the join become at another camera."""
    carry = np.zeros((*T_camera_join.shape[:-2], 7, 7))
    carry[..., :6, :6] = adjoint(T_camera_join)
    carry[..., :3, 6] = -T_camera_join[..., :3, 3]  # from the join to that camera, in its axes
    carry[..., 6, 6] = 1
    return carry
