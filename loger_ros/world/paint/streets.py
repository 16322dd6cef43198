"""Textures of streets: roads, paving, plants, houses."""

from __future__ import annotations

import numpy as np

from loger_ros.world.paint.brushes import cells, colour, grime, mix, noise, patch, tiles
from loger_ros.world.paint.families import family, paint


@family("road", 3)
def asphalt(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0.55, 0.7), (0, 0.12), (0.28, 0.45))
    image = mix(base * 0.55, base * 1.5, 0.6 * noise(rng, n, 0.25) + 0.4 * noise(rng, n, 1.2))
    for _ in range(3):  # repairs
        u, v = rng.uniform(0, 0.75, 2)
        w, h = rng.uniform(0.08, 0.3, 2)
        rows, columns = slice(int(v * n), int((v + h) * n)), slice(int(u * n), int((u + w) * n))
        image[rows, columns] *= rng.uniform(0.6, 0.85)
    image[np.abs(noise(rng, n, 1.7) - 0.5) < 0.007] *= 0.4
    return grime(rng, image, 0.4)


@family("paving")
def paving(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = int(rng.choice([4, 6]))
    number, joint = tiles(n, int(rng.choice([rows // 2, rows])), rows, rng.choice([0.0, 0.5]), 0.05)
    base = colour(rng, (0.02, 0.14), (0.03, 0.3), (0.5, 0.75))
    image = base * rng.uniform(0.72, 1.15, number.max() + 1)[number][..., None]
    image = mix(image, image * 0.55, noise(rng, n, 0.4))
    image[joint] *= 0.4
    return grime(rng, image)


@family("paving", 3)
def cobbles(rng: np.random.Generator, n: int) -> np.ndarray:
    number, border = cells(rng, n, 9)
    base = colour(rng, (0.03, 0.65), (0.02, 0.2), (0.4, 0.65))
    image = base * rng.uniform(0.6, 1.3, 81)[number][..., None]
    return grime(rng, image * np.clip(0.25 + border[..., None] * 28, 0.25, 1))


@family("grass", 2)
def grass(rng: np.random.Generator, n: int) -> np.ndarray:
    a, b = (
        colour(rng, (0.22, 0.3), (0.4, 0.7), (0.15, 0.3)),
        colour(rng, (0.18, 0.3), (0.4, 0.7), (0.45, 0.65)),
    )
    return grime(rng, mix(a, b, 0.6 * noise(rng, n, 0.3) + 0.4 * noise(rng, n, 1.3)), 0.4)


@family("leaf", 3)
def leaves(rng: np.random.Generator, n: int) -> np.ndarray:
    number, border = cells(rng, n, 15)
    base = colour(rng, (0.2, 0.36), (0.4, 0.75), (0.3, 0.6))
    image = base * rng.uniform(0.4, 1.5, 225)[number][..., None]
    return grime(rng, image * np.clip(0.35 + border[..., None] * 30, 0.35, 1), 0.5)


@family("bark", 2)
def bark(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0.05, 0.1), (0.25, 0.5), (0.25, 0.45))
    return grime(rng, mix(base * 0.4, base * 1.4, noise(rng, n, 0.7, 0.15)), 0.4)


@family("facade", 8)
def facade(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two storeys by two axes of windows: about 6 m square."""
    image = (
        paint(f"{rng.choice(['brick', 'plaster', 'blocks', 'plaster'])}.{rng.integers(1000, 9999)}", n)
        / 255.0
    )
    image = np.tile(image[::2, ::2], (2, 2, 1))
    width, height, sill = rng.uniform(0.16, 0.3), rng.uniform(0.2, 0.32), rng.uniform(0.1, 0.16)
    trim = colour(rng, (0, 1), (0, 0.2), (0.6, 1.0))
    bars = int(rng.integers(1, 4))
    for i in range(2):
        patch(image, (0, 1), (0.5 * i, 0.5 * i + 0.02), trim * 0.8)  # string course
        for j in range(2):
            left, low = 0.5 * j + 0.25 - width / 2, 0.5 * i + sill
            patch(image, (left - 0.02, left + width + 0.02), (low - 0.03, low + height + 0.02), trim)
            glass = colour(rng, (0.5, 0.65), (0.1, 0.4), (0.15, 0.5))
            patch(image, (left, left + width), (low, low + height), glass)
            if rng.random() < 0.5:  # a curtain or a blind
                drop = rng.uniform(0.2, 0.8) * height
                patch(
                    image,
                    (left, left + width),
                    (low + height - drop, low + height),
                    colour(rng, (0, 1), (0, 0.5), (0.5, 0.95)),
                )
            for k in range(1, bars + 1):
                at = left + width * k / (bars + 1)
                patch(image, (at - 0.005, at + 0.005), (low, low + height), trim)
            patch(image, (left, left + width), (low + height / 2 - 0.004, low + height / 2 + 0.006), trim)
    return grime(rng, image, 0.25)


@family("facade", 3, ("test",))
def curtain_wall(rng: np.random.Generator, n: int) -> np.ndarray:
    number, joint = tiles(n, 4, 4, joint=0.06)
    image = np.array([colour(rng, (0.48, 0.62), (0.2, 0.5), (0.2, 0.7)) for _ in range(16)])[number]
    image[joint] = colour(rng, (0, 1), (0, 0.1), (0.3, 0.8))
    return grime(rng, image, 0.3)


@family("shopfront")
def shopfront(rng: np.random.Generator, n: int) -> np.ndarray:
    image = np.ones((n, n, 3)) * colour(rng, (0, 1), (0.2, 0.7), (0.25, 0.7))
    patch(image, (0.06, 0.62), (0.18, 0.72), colour(rng, (0.5, 0.65), (0.1, 0.3), (0.15, 0.35)))
    for _ in range(14):  # wares in the window
        u, v = rng.uniform(0.07, 0.55), rng.choice([0.18, 0.4])
        patch(
            image,
            (u, u + rng.uniform(0.03, 0.07)),
            (v, v + rng.uniform(0.05, 0.2)),
            colour(rng, (0, 1), (0.2, 0.9), (0.3, 1)),
        )
    patch(image, (0.7, 0.93), (0.02, 0.72), colour(rng, (0, 1), (0.1, 0.6), (0.2, 0.5)))
    patch(image, (0.73, 0.9), (0.2, 0.68), colour(rng, (0.5, 0.65), (0.1, 0.4), (0.3, 0.6)))
    patch(image, (0.03, 0.97), (0.78, 0.97), colour(rng, (0, 1), (0.3, 0.9), (0.4, 0.95)))
    ink = colour(rng, (0, 1), (0, 0.3), (0.7, 1) if rng.random() < 0.5 else (0.05, 0.2))
    u = 0.12
    while u < 0.85:  # the name over the door
        w = rng.uniform(0.02, 0.06)
        patch(image, (u, u + w), (0.83, 0.83 + rng.uniform(0.06, 0.1)), ink)
        u += w + rng.uniform(0.012, 0.03)
    return grime(rng, image, 0.2)
