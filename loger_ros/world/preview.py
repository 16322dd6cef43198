"""Pictures of a sequence for people: a contact sheet with depth and a map, and a short film."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from loger_ros.resampling import FILTERS
from loger_ros.world.scene import Scene
from loger_ros.world.sequences import Clip, Sequence

PICTURES = 8  # on a contact sheet
GAP = 4  # pixels between pictures
PAPER, INK = (250, 249, 246), (60, 60, 64)
PATH, CAMERA, THING, WALL = (214, 60, 40), (30, 90, 200), (203, 196, 180), (120, 116, 110)
NEAR, FAR = 0.3, 20.0  # metres: the ends of the depth colours
TALL = 2.0  # metres: things that reach this high are drawn as walls
FLOOR = 0.2  # metres: lower things are not drawn


def contact_sheet(sequence: Sequence) -> Image.Image:
    """Frames from the whole path, their depth below them, and beside them the map with the path."""
    width, height = sequence.camera.width, sequence.camera.height
    columns = 4
    rows = math.ceil(PICTURES / columns)
    numbers = np.linspace(0, len(sequence) - 1, PICTURES).round().astype(int)
    across, down = columns * (width + GAP) + GAP, rows * 2 * (height + GAP) + GAP
    chart = top_view(sequence, down - 2 * GAP, numbers)
    sheet = Image.new("RGB", (across + chart.width + GAP, down + 16), PAPER)
    for k, number in enumerate(numbers):
        clip = sequence.render(int(number), int(number) + 1)
        x, y = GAP + k % columns * (width + GAP), GAP + k // columns * 2 * (height + GAP)
        sheet.paste(Image.fromarray(clip.rgb[0].cpu().numpy()), (x, y))
        sheet.paste(Image.fromarray(depth_colours(clip)[0]), (x, y + height + GAP))
    sheet.paste(chart, (across, GAP))
    ImageDraw.Draw(sheet).text((GAP, down), caption(sequence), fill=INK)
    return sheet


def caption(sequence: Sequence) -> str:
    spec = sequence.spec
    steps = np.linalg.norm(np.diff(sequence.T_world_camera[:, :3, 3], axis=0), axis=1)
    hfov = math.degrees(2 * math.atan(spec.width / 2 / sequence.camera.fx))
    held = f"{spec.motion}"
    if sequence.mount is not None:
        held += f", camera {sequence.mount.height:.2f} m high, {sequence.mount.pitch:.0f}° down"
    return (
        f"{spec.place}, {held}, field of view {hfov:.0f}°; {len(sequence)} frames, {steps.sum():.1f} m; "
        f"{spec.split} textures, seed {sequence.seed}, index {sequence.index}"
    )


def film(sequence: Sequence, path: Path, most: int = 120) -> None:
    """An animated GIF: image, depth and map side by side; long sequences skip frames."""
    step = max(1, math.ceil(len(sequence) / most))
    height = sequence.camera.height
    pictures = []
    for number in range(0, len(sequence), step):
        clip = sequence.render(number, number + 1)
        chart = top_view(sequence, height, np.array([number]))
        strip = np.concatenate([clip.rgb[0].cpu().numpy(), depth_colours(clip)[0], np.asarray(chart)], 1)
        pictures.append(Image.fromarray(strip).quantize(128))
    duration = max(20, round(1000 / sequence.spec.rate))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def depth_colours(clip: Clip) -> np.ndarray:
    """Near is warm, far is cold, the sky is black. (F, H, W, 3) uint8"""
    depth = clip.depth.cpu().numpy()
    share = np.log(np.clip(depth, NEAR, FAR) / NEAR) / math.log(FAR / NEAR)
    stops = np.array([0.0, 0.3, 0.6, 1.0])
    colours = np.array([[255, 236, 150], [240, 110, 70], [130, 50, 130], [25, 20, 70]])
    image = np.stack([np.interp(share, stops, colours[:, i]) for i in range(3)], -1)
    image[~np.isfinite(depth)] = 0
    return image.astype(np.uint8)


def top_view(sequence: Sequence, size: int, numbers: np.ndarray) -> Image.Image:
    """The place from above, north (y) up, with the path and the camera at some of its frames."""
    points = sequence.T_world_camera[:, :2, 3]
    polygons = _outlines(sequence.scene)
    low, high = points.min(0) - 3.0, points.max(0) + 3.0
    low, high = (low + high - (high - low).max()) / 2, (low + high + (high - low).max()) / 2
    scale = 2 * size / (high[0] - low[0])  # drawn at twice the size, for smooth lines
    image = Image.new("RGB", (2 * size, 2 * size), (238, 234, 226))
    draw = ImageDraw.Draw(image)

    def at(xy: np.ndarray) -> list[tuple[float, float]]:
        return [((x - low[0]) * scale, (high[1] - y) * scale) for x, y in np.atleast_2d(xy)]

    for tall in (False, True):
        for corners, is_tall in polygons:
            if is_tall == tall:
                draw.polygon(at(corners), fill=WALL if tall else THING, outline=INK)
    draw.line(at(points), fill=PATH, width=max(2, size // 120))
    for number in numbers:
        forward = sequence.T_world_camera[number, :2, 2]
        forward = forward / max(np.linalg.norm(forward), 1e-9)
        reach, side = 18 / scale, np.array([-forward[1], forward[0]])
        triangle = [
            points[number] + reach * forward * 1.6,
            points[number] + reach * side,
            points[number] - reach * side,
        ]
        draw.polygon(at(np.array(triangle)), fill=CAMERA)
    return image.resize((size, size), FILTERS.LANCZOS)


def _outlines(scene: Scene) -> list[tuple[np.ndarray, bool]]:
    """Corners (M, 2) of everything that stands on the ground, and whether it is tall."""
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    round_outline = np.stack([np.cos(turn), np.sin(turn)], 1)
    square_outline = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    outlines = []
    for kind, group in scene.shapes.items():
        unit = square_outline if kind == "box" else round_outline
        for centre, half, yaw in zip(group.centre, group.half, group.yaw, strict=True):
            bottom, top = centre[2] - half[2], centre[2] + half[2]
            if top < FLOOR or bottom > 1.0:
                continue
            rotation = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
            outlines.append((centre[:2] + (unit * half[:2]) @ rotation.T, bool(top >= TALL)))
    return outlines
