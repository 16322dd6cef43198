"""Textures of furniture, goods, pictures, doors and windows."""

from __future__ import annotations

import numpy as np

from loger_ros.world.paint.brushes import cells, colour, grain, grid, grime, mix, noise, patch, tiles
from loger_ros.world.paint.families import family


@family("wood")
def wood(rng: np.random.Generator, n: int) -> np.ndarray:
    return grime(rng, grain(rng, n, 5), 0.25)


@family("fabric")
def fabric(rng: np.random.Generator, n: int) -> np.ndarray:
    u, v = grid(n)
    base, other = colour(rng, (0, 1), (0.1, 0.6), (0.2, 0.7)), colour(rng, (0, 1), (0.05, 0.5), (0.25, 0.9))
    count = int(rng.choice([4, 8]))
    weave = 0.5 + 0.25 * np.sin(2 * np.pi * count * u) + 0.25 * np.sin(2 * np.pi * count * v)
    return grime(rng, mix(base, other, weave * rng.uniform(0.3, 0.9) * noise(rng, n, 0.4) * 2), 0.4)


@family("box")
def cardboard(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0.07, 0.11), (0.3, 0.5), (0.5, 0.75))
    image = base * (0.85 + 0.3 * noise(rng, n, 1.0, 4))[..., None]
    patch(image, (0, 1), (0.46, 0.54), base * 1.25)
    for _ in range(rng.integers(2, 5)):
        u, v = rng.uniform(0.05, 0.7, 2)
        w, h = rng.uniform(0.08, 0.28, 2)
        patch(image, (u, u + w), (v, v + h), colour(rng, (0, 1), (0, 0.9), (0.05, 1)))
    return grime(rng, image, 0.25)


@family("box")
def crate(rng: np.random.Generator, n: int) -> np.ndarray:
    number, joint = tiles(n, 1, 6, joint=0.06)
    image = grain(rng, n) * rng.uniform(0.75, 1.15, number.max() + 1)[number][..., None]
    image[joint] *= 0.3
    u, v = grid(n)
    frame = (np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.1) | (np.abs(u - v) < 0.07)
    image = np.where(frame[..., None], image * 0.72, image)
    return grime(rng, image, 0.25)


@family("metal")
def metal(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0, 1), (0, 0.6), (0.35, 0.8))
    image = base * (0.75 + 0.5 * noise(rng, n, 0.8, 0.2))[..., None]
    u, v = grid(n)
    count = int(rng.choice([2, 4]))
    seam = np.minimum(v * count % 1, 1 - v * count % 1) < 0.03
    rivet = ((u * 8 % 1 - 0.5) ** 2 + ((v * count % 1 - 0.1) * 8 / count) ** 2) < 0.03
    image[seam] *= 0.5
    image[rivet] *= 1.35
    rust = np.clip(noise(rng, n, 1.4) * 4 - 2.6, 0, 1)
    return grime(rng, mix(image, np.array([0.42, 0.24, 0.12]), rust), 0.3)


@family("box", 4, ("test",))
def camouflage(rng: np.random.Generator, n: int) -> np.ndarray:
    palette = np.array([colour(rng, (0, 1), (0.1, 0.6), (0.15, 0.85)) for _ in range(4)])
    return grime(rng, palette[np.digitize(noise(rng, n, 1.5), [0.38, 0.5, 0.62])], 0.2)


@family("shelf")
def books(rng: np.random.Generator, n: int) -> np.ndarray:
    image = np.ones((n, n, 3)) * colour(rng, (0.05, 0.1), (0.3, 0.6), (0.1, 0.25))
    for shelf in range(4):
        low, u = shelf / 4, 0.03
        patch(image, (0, 1), (low, low + 0.025), colour(rng, (0.05, 0.1), (0.3, 0.6), (0.4, 0.6)))
        while u < 0.93:
            w = rng.uniform(0.015, 0.06)
            if rng.random() < 0.88:
                height = rng.uniform(0.12, 0.2)
                cover = colour(rng, (0, 1), (0.1, 0.9), (0.2, 0.95))
                patch(image, (u, u + w), (low + 0.025, low + 0.025 + height), cover)
                band = low + 0.03 + height * rng.uniform(0.2, 0.8)
                patch(image, (u, u + w), (band, band + 0.015), 1 - cover)
            u += w + 0.003
    return grime(rng, image, 0.2)


@family("picture", 10)
def poster(rng: np.random.Generator, n: int) -> np.ndarray:
    image = np.ones((n, n, 3)) * colour(rng, (0, 1), (0.05, 0.8), (0.3, 0.98))
    u, v = grid(n)
    for _ in range(rng.integers(4, 12)):
        fill, (a, b) = colour(rng, (0, 1), (0.1, 1), (0.05, 1)), rng.random(2)
        if rng.random() < 0.5:
            w, h = rng.uniform(0.08, 0.45, 2)
            image[(np.abs(u - a) < w / 2) & (np.abs(v - b) < h / 2)] = fill
        else:
            image[(u - a) ** 2 + (v - b) ** 2 < rng.uniform(0.05, 0.25) ** 2] = fill
    line = rng.uniform(0.1, 0.5)
    for i in range(rng.integers(0, 6)):  # lines of text
        patch(
            image,
            (0.1, rng.uniform(0.4, 0.9)),
            (line - 0.05 * i, line - 0.05 * i + 0.022),
            colour(rng, (0, 1), (0, 0.3), (0, 0.3)),
        )
    u_edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    image[u_edge < rng.uniform(0, 0.05)] = colour(rng, (0, 1), (0, 0.5), (0.05, 0.95))
    return grime(rng, image, 0.12)


@family("picture", 4)
def painting(rng: np.random.Generator, n: int) -> np.ndarray:
    number, _ = cells(rng, n, int(rng.integers(3, 7)))
    image = np.array([colour(rng, (0, 1), (0.2, 0.9), (0.2, 0.95)) for _ in range(36)])[number]
    image = mix(image, image[::-1, ::-1], noise(rng, n, 1.2))
    u, v = grid(n)
    image[np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.05] = colour(
        rng, (0.08, 0.13), (0.2, 0.7), (0.2, 0.7)
    )
    return image


@family("door", 5)
def door(rng: np.random.Generator, n: int) -> np.ndarray:
    base = colour(rng, (0, 1), (0.05, 0.5), (0.3, 0.85)) if rng.random() < 0.5 else grain(rng, n, 0.15)
    image = np.ones((n, n, 3)) * base
    for low, high in ((0.06, 0.42), (0.5, 0.94)):
        for left in (0.12, 0.54):
            patch(image, (left, left + 0.34), (low, high), np.zeros(3))
    panels = image.sum(-1) == 0
    image = np.where(panels[..., None], (np.ones((n, n, 3)) * base) * rng.uniform(0.6, 0.85), image)
    if rng.random() < 0.4:  # a pane
        patch(image, (0.2, 0.8), (0.55, 0.9), colour(rng, (0.5, 0.65), (0.05, 0.3), (0.5, 0.9)))
    patch(image, (0.86, 0.94), (0.44, 0.48), np.array([0.85, 0.8, 0.6]))
    u, v = grid(n)
    image[(np.minimum(u, 1 - u) < 0.04) | (v > 0.97)] = colour(rng, (0, 1), (0, 0.3), (0.5, 0.95))
    return grime(rng, image, 0.2)


@family("window", 4)
def window(rng: np.random.Generator, n: int) -> np.ndarray:
    u, v = grid(n)
    sky, land = (
        colour(rng, (0.53, 0.6), (0.1, 0.4), (0.85, 1)),
        colour(rng, (0.2, 0.4), (0.2, 0.5), (0.3, 0.6)),
    )
    line = rng.uniform(0.25, 0.5) + 0.3 * (noise(rng, n, 1.6)[0] - 0.5)
    image = mix(sky, land, (v < line[None]).astype(float) * (0.7 + 0.3 * noise(rng, n, 0.8)))
    frame = colour(rng, (0.05, 0.12), (0, 0.4), (0.6, 1))
    bars = int(rng.integers(1, 4))
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.05
    image[edge | (np.abs(u * bars % 1 - 0.5) < 0.02 * bars) | (np.abs(v - 0.55) < 0.015)] = frame
    return image


@family("rug", 4)
def rug(rng: np.random.Generator, n: int) -> np.ndarray:
    u, v = grid(n)
    radius = (
        np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) if rng.random() < 0.5 else np.hypot(u - 0.5, v - 0.5)
    )
    palette = np.array([colour(rng, (0, 1), (0.2, 0.8), (0.2, 0.85)) for _ in range(6)])
    pattern = radius * 12 + 0.7 * np.sin(2 * np.pi * rng.integers(3, 9) * u) * np.sin(
        2 * np.pi * rng.integers(3, 9) * v
    )
    return grime(rng, palette[np.floor(pattern).astype(int) % 6], 0.35)
