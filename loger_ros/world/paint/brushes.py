"""What textures are painted with: noise, bonds of tiles, cells, patches, dirt; images are (n, n, 3), 0..1."""

from __future__ import annotations

import colorsys

import numpy as np


def colour(
    rng: np.random.Generator, hue: tuple[float, float], sat: tuple[float, float], val: tuple[float, float]
):
    return np.array(colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*sat), rng.uniform(*val)))


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """u to the right and v upwards, 0..1, each (n, n)."""
    at = (np.arange(n) + 0.5) / n
    return np.broadcast_to(at[None], (n, n)), np.broadcast_to(at[:, None], (n, n))


def noise(rng: np.random.Generator, n: int, slope: float = 1.0, stretch: float = 1.0) -> np.ndarray:
    """Tiling 1/f^slope noise with mean 0.5 and deviation 0.2; ``stretch`` > 1 draws it out along u."""
    if slope >= 1 and n >= 128:  # smooth enough to be made at half the size
        image = noise(rng, n // 2, slope, stretch)
        for _ in range(2):  # double the rows, then the columns
            image = np.stack([image, (image + np.roll(image, -1, 0)) / 2], 1).reshape(n, -1).T
        return image
    fy, fx = np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n
    radius = np.hypot(fy[:, None], fx[None] * stretch)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((n, n))) / np.maximum(radius, 1) ** slope
    image = np.fft.irfft2(spectrum, (n, n))
    return np.clip(0.5 + 0.2 * (image - image.mean()) / image.std(), 0, 1)


def mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return a + (b - a) * weight[..., None]


def grime(rng: np.random.Generator, image: np.ndarray, depth: float = 0.35) -> np.ndarray:
    """Uneven dirt and a fine grain over everything, as real surfaces have."""
    n = len(image)
    shade = 1 - depth * noise(rng, n, 1.6) + 0.12 * (noise(rng, n, 0.4) - 0.5)
    return image * (shade / shade.mean())[..., None]


def tiles(n: int, columns: int, rows: int, shift: float = 0.0, joint: float = 0.03):
    """Bond of rectangles: number of each (n, n), whether a point is in a joint (n, n). ``joint`` in rows."""
    u, v = grid(n)
    row = np.floor(v * rows).astype(int)
    x = (u * columns + shift * row) % columns
    edge_u = np.minimum(x % 1, 1 - x % 1) * rows / columns
    edge_v = np.minimum(v * rows % 1, 1 - v * rows % 1)
    return row * columns + np.floor(x).astype(int), np.minimum(edge_u, edge_v) < joint


def cells(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiling Voronoi cells of k x k jittered points: number of the nearest, distance from the border."""
    jitter = rng.uniform(0.05, 0.95, (k, k, 2)).astype(np.float32)
    u, v = (axis.astype(np.float32) * k for axis in grid(n))
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    best = np.full((n, n), 9, np.float32)
    second, number = best.copy(), np.zeros((n, n), int)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            index = (row + i) % k * k + (column + j) % k
            points = jitter.reshape(-1, 2)[index]
            square = (u - column - j - points[..., 0]) ** 2 + (v - row - i - points[..., 1]) ** 2
            nearer = square < best
            second = np.where(nearer, best, np.minimum(second, square))
            number = np.where(nearer, index, number)
            best = np.minimum(best, square)
    return number, (np.sqrt(second) - np.sqrt(best)) / k


def patch(image: np.ndarray, u: tuple[float, float], v: tuple[float, float], fill: np.ndarray) -> None:
    n = len(image)
    image[round(v[0] * n) : round(v[1] * n), round(u[0] * n) : round(u[1] * n)] = fill


def grain(rng: np.random.Generator, n: int, stretch: float = 8) -> np.ndarray:
    base = colour(rng, (0.05, 0.11), (0.35, 0.7), (0.35, 0.75))
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * noise(rng, n, 1.4, stretch)))
    return mix(base * 0.62, base * 1.15, 0.55 * rings + 0.45 * noise(rng, n, 0.8, stretch))
