"""Chunks as a network with known faults would predict them, to measure what joins them best.

    python test/simulated_chunks.py        prints drift by alignment: the table of docs/alignment.md

Every chunk has a frame and a scale of its own; its poses have independent and drifting errors, some frames
are bad; depths have noise per frame and per pixel, outliers are biased and get lower confidence, imperfectly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from loger_ros.geometry import exp_rotation, inverse, transform
from loger_ros.stream.align import HOME, Aligner
from loger_ros.stream.covariance import Uncertainty
from loger_ros.types import PosedFrame, Update

HEIGHT, WIDTH = 12, 16


@dataclass(frozen=True)
class Faults:
    """Standard deviations; translations in metres, rotations in rad, scales and depths relative."""

    scale: float = 0.1  # of a chunk
    drift: tuple[float, float] = (0.004, 0.0007)  # per frame within a chunk: translation, rotation
    pose: tuple[float, float] = (0.02, 0.002)  # of each frame by itself
    bad_frames: float = 0.0  # share of frames with eight times that
    frame_scale: float = 0.01
    pixel: float = 0.05
    outliers: float = 0.1  # share of pixels, 35 % too far and widely spread


CASES = {
    "mild": Faults(),
    "bad frames": Faults(bad_frames=0.1),
    "many outliers": Faults(outliers=0.4),
    "drifting chunks": Faults(pose=(0.004, 0.0004), drift=(0.01, 0.002)),
    "frames of uneven scale": Faults(frame_scale=0.05),
    "everything": Faults(bad_frames=0.1, outliers=0.3, frame_scale=0.03),
}


def motion(rng, deviations, count):
    translation, rotation = deviations
    return transform(
        exp_rotation(rng.normal(size=(count, 3)) * rotation), rng.normal(size=(count, 3)) * translation
    )


def small(vector):
    return transform(exp_rotation(vector[..., 3:]), vector[..., :3])


def path(rng, count):
    """About 0.2 m forward per frame, turning gently. (count, 4, 4)"""
    sway = np.cumsum(rng.normal(size=(count, 6)) * [0.001, 0.0003, 0.003, 0.0003, 0.002, 0.0003], axis=0)
    steps = small(np.clip(sway + np.array([0, 0, 0.2, 0, 0.01, 0]), -0.3, 0.3))
    poses = [np.eye(4)]
    for step in steps[:-1]:
        poses.append(poses[-1] @ step)
    return np.array(poses)


def predicted(rng, truth, depth, faults):
    """→ poses (n, 4, 4), local points (n, H, W, 3) and confidence logits (n, H, W, 1) of one chunk."""
    count = len(truth)
    scale = np.exp(rng.normal() * faults.scale)
    deviations = np.repeat(np.stack([faults.drift, faults.pose]), 3, axis=1)  # (2, 6)
    drift = np.cumsum(rng.normal(size=(count, 6)) * deviations[0], axis=0)
    own = rng.normal(size=(count, 6)) * deviations[1]
    bad = rng.random(count) < faults.bad_frames
    own[bad] *= 8
    poses = inverse(small(rng.normal(size=6))) @ truth @ small(drift + own)
    poses[:, :3, 3] *= scale
    spread = rng.normal(size=(count, 1, 1)) * faults.frame_scale + rng.normal(size=depth.shape) * faults.pixel
    outlier = rng.random(depth.shape) < faults.outliers
    spread += outlier * (0.3 + 0.5 * rng.normal(size=depth.shape))
    z = torch.from_numpy(depth * scale * np.exp(spread)).float()
    sure = np.where(outlier, rng.beta(2, 4, size=depth.shape), rng.beta(5, 2, size=depth.shape))
    sure = np.clip(np.where(bad[:, None, None], 0.6 * sure, sure), 0.01, 0.99)
    v, u = torch.meshgrid(torch.arange(HEIGHT) - 5.5, torch.arange(WIDTH) - 7.5, indexing="ij")
    points = torch.stack([u / 10 * z, v / 10 * z, z], -1)
    return poses, points, torch.from_numpy(np.log(sure / (1 - sure))).float()[..., None]


def joined(chunks, aligner, overlap, depth_shape=(HEIGHT, WIDTH)):
    """Poses (N, 4, 4) and covariances (N, 6, 6) after all chunks were placed."""
    placement, shared, poses, covariances = HOME, None, [], []
    uncertainty = Uncertainty(aligner.alignment)
    for number, (raw, points, confidence) in enumerate(chunks):
        if number:
            placement = aligner.place(placement, shared, raw, points, confidence, memory_lost=False)
        placed = placement.poses(raw)
        known = np.array([f.T_map_camera for f in shared.frames] if shared else []).reshape(-1, 4, 4)
        means = confidence.sigmoid().flatten(1).mean(1).double().numpy()
        covariance, uncertainty = uncertainty.after_chunk(placed, means, known, placement.scales)
        keep = len(raw) if number == len(chunks) - 1 else len(raw) - overlap
        poses.append(placed[:keep])
        covariances.append(covariance[:keep])
        frames = tuple(PosedFrame(0, pose, np.eye(6), False, 0) for pose in placed[keep:])
        images = torch.zeros(len(frames), *depth_shape, 3, dtype=torch.uint8)
        shared = Update(
            frames, images, points[keep:] * placement.scale, confidence[keep:], number, np.eye(4), 1.0
        )
    return np.concatenate(poses), np.concatenate(covariances)


def simulate(seed, faults, *, chunks=20, size=16, overlap=3):
    """→ true poses and the chunks."""
    rng = np.random.default_rng(seed)
    step = size - overlap
    truth = path(rng, size + step * (chunks - 1))
    depth = rng.uniform(4, 20, size=(len(truth), HEIGHT, WIDTH))
    spans = [slice(i * step, i * step + size) for i in range(chunks)]
    return truth, [predicted(rng, truth[span], depth[span], faults) for span in spans]


def drift_percent(poses, truth):
    """RMS position error after the best similarity, in percent of the path."""
    a, b = truth[:, :3, 3], poses[:, :3, 3]
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, s, vt = np.linalg.svd((a - mean_a).T @ (b - mean_b))
    sign = np.diag([1, 1, np.linalg.det(u @ vt)])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(s) @ sign) / ((b - mean_b) ** 2).sum()
    error = scale * (b - mean_b) @ rotation.T + mean_a - a
    length = np.linalg.norm(np.diff(a, axis=0), axis=1).sum()
    return 100 * np.sqrt((error**2).sum(1).mean()) / length


ALIGNERS = {
    "sim3 median": Aligner("sim3", "median"),
    "sim3 median_all": Aligner("sim3", "median_all"),
    "robust": Aligner("robust"),
}


def median_drift(faults, seeds, **settings):
    found = {name: [] for name in ALIGNERS}
    for seed in seeds:
        truth, chunks = simulate(seed, faults, **settings)
        for name, aligner in ALIGNERS.items():
            poses, _ = joined(chunks, aligner, settings.get("overlap", 3))
            found[name].append(drift_percent(poses, truth))
    return {name: float(np.median(values)) for name, values in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| shared frames | faults | " + " | ".join(ALIGNERS) + " |")
    print("| --- | --- |" + " --- |" * len(ALIGNERS))
    for overlap in (3, 8):
        for name, faults in CASES.items():
            drifts = median_drift(replace(faults), range(25), overlap=overlap)
            print(
                f"| {overlap} | {name} | " + " | ".join(f"{d:.2f} %" for d in drifts.values()) + " |",
                flush=True,
            )
