"""Textures of floors, walls and ceilings."""

from __future__ import annotations

import numpy as np

from loger_ros.world.paint.brushes import cells, colour, grain, grid, grime, mix, noise, patch, tiles
from loger_ros.world.paint.families import family


@family("floor")
def planks(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = int(rng.choice([4, 6, 8]))
    number, joint = tiles(n, 1 if rows < 6 else 2, rows, rng.uniform(0.3, 0.7), 0.03)
    board = rng.uniform(0.65, 1.2, number.max() + 1)[number]
    return grime(rng, grain(rng, n) * board[..., None] * np.where(joint, 0.35, 1)[..., None], 0.25)


@family("floor")
def floor_tiles(rng: np.random.Generator, n: int) -> np.ndarray:
    count = int(rng.choice([2, 3, 4]))
    number, joint = tiles(n, count, count, joint=0.025)
    base = colour(rng, (0, 1), (0.05, 0.3), (0.45, 0.9))
    image = base * rng.uniform(0.8, 1.1, number.max() + 1)[number][..., None]
    image = mix(image, image * 0.6, noise(rng, n, 1.2))
    image[joint] = colour(rng, (0.05, 0.15), (0, 0.2), (0.25, 0.5))
    return grime(rng, image)


@family("floor")
def carpet(rng: np.random.Generator, n: int) -> np.ndarray:
    a, b = colour(rng, (0, 1), (0.1, 0.5), (0.15, 0.5)), colour(rng, (0, 1), (0.05, 0.45), (0.4, 0.75))
    return grime(rng, mix(a, b, np.clip(2.4 * noise(rng, n, 0.7) - 0.7, 0, 1)), 0.5)


@family("floor")
def terrazzo(rng: np.random.Generator, n: int) -> np.ndarray:
    number, border = cells(rng, n, 13)
    stones = np.array([colour(rng, (0, 1), (0, 0.4), (0.25, 0.95)) for _ in range(169)])
    base = colour(rng, (0.05, 0.15), (0, 0.15), (0.5, 0.85))
    keep = (border > 0.012) & (rng.random(169) < 0.6)[number]
    return grime(rng, np.where(keep[..., None], stones[number], base), 0.3)


@family("floor")
def concrete(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0.05, 0.65), (0, 0.12), (0.4, 0.7))
    image = mix(base * 0.6, base * 1.25, noise(rng, n, 1.0))
    crack = np.abs(noise(rng, n, 1.7) - 0.5) < 0.006
    image[crack] *= 0.45
    return grime(rng, image, 0.5)


@family("floor", 3)
def checker(rng: np.random.Generator, n: int) -> np.ndarray:
    count = int(rng.choice([2, 4]))
    number, joint = tiles(n, count, count, joint=0.012)
    dark = (number // count + number % count) % 2
    a, b = colour(rng, (0, 1), (0, 0.5), (0.1, 0.4)), colour(rng, (0, 1), (0, 0.25), (0.65, 0.95))
    image = np.where(dark[..., None] == 1, a, b) * np.where(joint, 0.6, 1)[..., None]
    return grime(rng, image * (0.8 + 0.4 * noise(rng, n, 1.1))[..., None])


@family("floor", 4, ("test",))
def herringbone(rng: np.random.Generator, n: int) -> np.ndarray:
    u, v = grid(n)
    k = 4
    a, b = np.floor((u + v) * k), np.floor((u - v) * k)
    stripe = np.where((a + b) % 2 == 0, (u + v) * k * 3, (u - v) * k * 3)
    board = (np.sin(np.floor(stripe) * 12.9898 + (a % k) * 7.23 + (b % k) * 3.1) * 43758.5453) % 1
    joint = np.minimum(stripe % 1, 1 - stripe % 1) < 0.06
    return grime(rng, grain(rng, n, 1) * (0.6 + 0.6 * board)[..., None] * np.where(joint, 0.4, 1)[..., None])


@family("wall", 6)
def plaster(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0.03, 0.17) if rng.random() < 0.6 else (0, 1), (0.04, 0.22), (0.65, 0.95))
    image = mix(base * 0.72, base * 1.08, noise(rng, n, 1.3))
    for _ in range(rng.integers(6, 14)):  # dents, nails and marks
        u, v = rng.uniform(0.0, 0.94, 2)
        w, h = rng.uniform(0.006, 0.05, 2)
        patch(image, (u, u + w), (v, v + h), base * rng.uniform(0.4, 0.8))
    return grime(rng, image, 0.3)


@family("wall")
def brick(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = int(rng.choice([8, 12]))
    number, joint = tiles(n, rows // 2, rows, 0.5, 0.07)
    base = colour(rng, (0.98, 1.09), (0.3, 0.65), (0.4, 0.75))
    image = base * rng.uniform(0.65, 1.25, number.max() + 1)[number][..., None]
    image = mix(image, image * 0.6, noise(rng, n, 0.6))
    image[joint] = colour(rng, (0.05, 0.12), (0, 0.2), (0.5, 0.8))
    return grime(rng, image)


@family("wall")
def wallpaper(rng: np.random.Generator, n: int) -> np.ndarray:
    u, v = grid(n)
    a, b = colour(rng, (0, 1), (0.05, 0.3), (0.55, 0.9)), colour(rng, (0, 1), (0.05, 0.35), (0.45, 0.95))
    count = int(rng.choice([4, 6, 8]))
    stripe = 0.5 + 0.5 * np.sign(
        np.sin(2 * np.pi * count * u + 0.5 * np.sin(2 * np.pi * v * rng.integers(0, 3)))
    )
    flower = ((u * count % 1 - 0.5) ** 2 + (v * count % 1 - 0.5) ** 2) < rng.uniform(0.02, 0.09)
    image = mix(a, b, 0.6 * stripe)
    image[flower] = colour(rng, (0, 1), (0.3, 0.8), (0.3, 0.9))
    return grime(rng, image, 0.25)


@family("wall")
def panelling(rng: np.random.Generator, n: int) -> np.ndarray:
    count = int(rng.choice([2, 3, 4]))
    number, joint = tiles(n, count, count, joint=0.02)
    _, frame = tiles(n, count, count, joint=0.12)
    base = colour(rng, (0.03, 0.65), (0.05, 0.35), (0.45, 0.9))
    image = base * rng.uniform(0.82, 1.1, number.max() + 1)[number][..., None]
    image = np.where(frame[..., None], image * 0.85, image)
    image[joint] *= 0.45
    return grime(rng, mix(image, image * 0.75, noise(rng, n, 1.0, 3)), 0.25)


@family("wall", 3)
def blocks(rng: np.random.Generator, n: int) -> np.ndarray:
    number, joint = tiles(n, 3, 6, 0.5, 0.035)
    base = colour(rng, (0.05, 0.65), (0.02, 0.15), (0.5, 0.8))
    image = mix(base * 0.7, base * 1.15, noise(rng, n, 0.5))
    image *= rng.uniform(0.88, 1.1, number.max() + 1)[number][..., None]
    image[joint] *= 0.7
    return grime(rng, image)


@family("wall", 4, ("test",))
def mosaic(rng: np.random.Generator, n: int) -> np.ndarray:
    number, joint = tiles(n, 16, 16, 0.5, 0.08)
    palette = np.array([colour(rng, (0.4, 0.65), (0.2, 0.7), (0.4, 0.95)) for _ in range(5)])
    image = palette[rng.integers(0, 5, number.max() + 1)][number]
    image[joint] = 0.75
    return grime(rng, image, 0.3)


@family("ceiling", 3)
def ceiling(rng: np.random.Generator, n: int) -> np.ndarray:
    _, joint = tiles(n, 2, 2, joint=0.015)
    image = colour(rng, (0, 1), (0, 0.08), (0.8, 0.95)) * (0.8 + 0.3 * noise(rng, n, 0.3))[..., None]
    image[joint] *= 0.6
    return grime(rng, image, 0.2)
