"""From the shape a pixel sees to its exact depth and its colour: texture, light from above, haze, sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from loger_ros.world.render.cast import Hits
from loger_ros.world.render.stage import Stage
from loger_ros.world.render.tiling import TiledRays
from loger_ros.world.render.views import Views
from loger_ros.world.scene import FACES

GAIN = 1.4  # exposure that suits the textures and the lamps
FOOT = 0.35  # metres above the ground over which walls darken towards it
FOOT_DARKENING = 0.28
GROUND_TOP = 0.15  # metres: level faces below it lie in the shadows of the ground
LIGHT_STEP = (
    0.12  # metres before a surface at which its light is read, so that a wall belongs to its own room
)


@dataclass(frozen=True, eq=False)
class Surface:
    """What each of N pixels looks at."""

    depth: Tensor  # (N,) along the optical axis, metres
    row: Tensor  # (N,) int64: shape within the stage
    face: Tensor  # (N,) int64
    u: Tensor  # (N,) -1..1 over the face
    v: Tensor
    slant: Tensor  # (N,) rate at which the ray nears the surface, in the unit of the material's density
    level: Tensor  # (N,) 1 on horizontal faces, else 0
    lit: Tensor  # (N,) factor of round shapes; boxes have their light in the tint


def locate(stage: Stage, views: Views, hits: Hits) -> Surface:
    """Find the exact point that each pixel sees: the depth of the cast has lost its last bits."""
    batch = len(views)
    numbers = hits.shape.view(batch, -1)
    frames = torch.arange(batch, device=stage.device)[:, None]
    row = (numbers + views.scene[:, None] * stage.shapes).view(-1)
    local = (numbers + frames * stage.shapes).view(-1)
    x, y, z = (component.view(-1) for component in hits.direction)
    a, b, c, d, e = (column.index_select(0, row) for column in stage.to_unit.flatten(0, 1).T.contiguous())
    ox, oy, oz = (column.index_select(0, local) for column in hits.origin.flatten(0, 1).T.contiguous())
    dx, dy, dz = a * x + b * y, c * x + d * y, e * z

    tx, ty, tz = _entry(ox, dx), _entry(oy, dy), _entry(oz, dz)
    depth = torch.maximum(torch.maximum(tx, ty), tz)  # the last plane entered is the face that is seen
    on_z = (tz >= depth).float()
    on_x = (tx >= depth).float() * (1 - on_z)
    on_y = 1 - on_x - on_z
    slant = dx * on_x + dy * on_y + dz * on_z
    qx, qy, qz = ox + depth * dx, oy + depth * dy, oz + depth * dz
    u = qx + on_x * (qy - qx)
    v = qz + on_z * (qy - qz)
    face = (2 * on_y + 4 * on_z + (slant < 0)).long()
    surface = Surface(depth, row, face, u, v, slant.abs(), on_z, torch.ones_like(depth))

    boxes, cylinders, _ = stage.counts
    if boxes < stage.shapes:
        curved = (numbers.view(-1) >= boxes).nonzero()[:, 0]
        if len(curved):
            sphere = numbers.view(-1)[curved] >= boxes + cylinders
            o, q = [t[curved] for t in (ox, oy, oz)], [t[curved] for t in (dx, dy, dz)]
            unit = [t[curved] for t in (a, b, c, d, e)]
            sky = stage.sky[views.scene[curved // numbers.shape[1]]]
            _locate_round(surface, curved, sphere, o, q, unit, [t[curved] for t in (x, y, z)], sky)
    return surface


def _entry(origin: Tensor, direction: Tensor) -> Tensor:
    """Depth of the nearer of the two planes at -1 and 1; -inf between them when the ray never leaves."""
    return -(origin + torch.copysign(torch.ones_like(direction), direction)) / direction


def _locate_round(
    surface: Surface,
    pixels: Tensor,
    sphere: Tensor,
    o: list[Tensor],
    d: list[Tensor],
    unit: list[Tensor],
    ray: list[Tensor],
    sky: Tensor,
) -> None:
    """Overwrite the rows of ``surface`` that belong to cylinders and ellipsoids."""
    third = sphere.float()
    square = d[0] * d[0] + d[1] * d[1] + third * d[2] * d[2]
    half = o[0] * d[0] + o[1] * d[1] + third * o[2] * d[2]
    rest = o[0] * o[0] + o[1] * o[1] + third * o[2] * o[2] - 1
    side = (-half - (half * half - square * rest).clamp_min(0).sqrt()) / square
    cap = torch.where(sphere, side, _entry(o[2], d[2]))
    depth = torch.maximum(side, cap)
    on_cap = cap > side
    qx, qy, qz = (origin + depth * direction for origin, direction in zip(o, d, strict=True))
    a, b, c, e, f = unit
    flat = on_cap.float()
    normal = torch.stack(
        [
            (a * qx + c * qy) * (1 - flat),
            (b * qx + e * qy) * (1 - flat),
            f * torch.where(sphere, qz, flat * qz.sign()),
        ],
        -1,
    )
    normal = normal / normal.norm(dim=-1, keepdim=True)
    slant = (normal[:, 0] * ray[0] + normal[:, 1] * ray[1] + normal[:, 2] * ray[2]).abs()
    sun, ambient = sky[:, :3], sky[:, 3]
    surface.depth[pixels] = depth
    surface.face[pixels] = torch.where(on_cap, 4 + (qz > 0).long(), 1)
    surface.u[pixels] = torch.where(on_cap, qx, torch.atan2(qy, qx) / math.pi)
    surface.v[pixels] = torch.where(on_cap, qy, qz)
    surface.slant[pixels] = slant
    surface.level[pixels] = flat
    surface.lit[pixels] = ambient + (1 - ambient) * (normal * sun).sum(-1).clamp_min(0)


def shade(stage: Stage, views: Views, rays: TiledRays, hits: Hits) -> tuple[Tensor, Tensor]:
    """Colour (3, B, T, P) 0..1 and depth (B, T, P), which is infinite in the sky."""
    surface = locate(stage, views, hits)
    missed = (~hits.hit.view(-1)).nonzero()[:, 0]
    if len(missed):  # any numbers will do that do not index outside a texture
        surface.depth[missed], surface.slant[missed] = 1.0, 1.0
        surface.u[missed] = surface.v[missed] = 0.0
    x, y, z = (component.view(-1) for component in hits.direction)
    length = (x * x + y * y + z * z).sqrt()
    material = surface.row * FACES + surface.face
    ku, kv, ou, ov, *tint, density = (row.index_select(0, material) for row in stage.material)
    focal = rays.focal[views.camera].reshape(-1)
    footprint = surface.depth * density / focal * (length / surface.slant.clamp_min(1e-4)).sqrt()
    colour = stage.atlas.sample(
        stage.texture.index_select(0, material), surface.u * ku + ou, surface.v * kv + ov, footprint
    )
    light = _light(stage, views, surface, (x, y, z), length)
    per_frame = stage.sky[views.scene]  # (B, 11)
    shape = (len(views), -1)
    clear = torch.exp(surface.depth.view(shape) * -per_frame[:, 7:8]).view(-1)
    light = light * clear
    shaded = []
    for i, (channel, factor) in enumerate(zip(colour, tint, strict=True)):
        haze = ((1 - clear).view(shape) * per_frame[:, 4 + i : 5 + i]).view(-1)
        shaded.append(channel * factor * light + haze)
    rgb = torch.stack(shaded)  # (3, N)
    depth = surface.depth
    if len(missed):
        frame = missed // (len(depth) // len(views))
        up = (z[missed] / length[missed]).clamp(0, 1).sqrt()[:, None]
        sky = per_frame[frame]
        rgb[:, missed] = (sky[:, 4:7] * (1 - up) + sky[:, 8:11] * up).T
        depth = depth.index_fill(0, missed, torch.inf)
    tiled = (len(views), rays.tiles, -1)
    return rgb.view(3, *tiled), depth.view(tiled)


def _light(
    stage: Stage, views: Views, surface: Surface, ray: tuple[Tensor, Tensor, Tensor], length: Tensor
) -> Tensor:
    """Lamps, shadows on the ground, and the soft darkness at the foot of everything upright. (N,)"""
    shape = (len(views), -1)
    position = views.pose[:, :3, 3]
    before = surface.depth - LIGHT_STEP / length
    frame = stage.light_frame[views.scene]  # (B, 5)
    rows, columns = stage.light_size
    start = ((position[:, :2] - frame[:, :2]) * frame[:, 2:3]).float()  # (B, 2) cells
    scale = frame[:, 2:3].float()
    last = frame[:, 3:].float() - 0.001  # of each scene's own map: beyond lies padding
    gx = torch.minimum(((before * ray[0]).view(shape) * scale + start[:, :1]).clamp_(min=0), last[:, :1])
    gy = torch.minimum(((before * ray[1]).view(shape) * scale + start[:, 1:]).clamp_(min=0), last[:, 1:])
    left, top = gx.floor(), gy.floor()
    fx, fy = ((gx - left) * 256).int().view(-1), ((gy - top) * 256).int().view(-1)
    index = (top.int() * columns + left.int() + (views.scene * (rows * columns)).int()[:, None]).view(-1)
    w11 = (fx * fy) >> 8
    total = stage.light.index_select(0, index) * (256 - fx - fy + w11)
    total += stage.light.index_select(0, index + 1) * (fx - w11)
    total += stage.light.index_select(0, index + columns) * (fy - w11)
    total += stage.light.index_select(0, index + (columns + 1)) * w11
    full = GAIN / (255 * 256)
    air, ground = (total & 0xFFFF) * full, ((total >> 16) & 0xFFFF) * full
    height = ((surface.depth * ray[2]).view(shape) + position[:, 2:].float()).view(-1)
    on_ground = (2 - height / GROUND_TOP).clamp(0, 1) * surface.level
    foot = (1 - height / FOOT).clamp(0, 1) * (1 - surface.level)
    return (air + (ground - air) * on_ground) * (1 - FOOT_DARKENING * foot) * surface.lit
