"""A map that forgets: at most ``max_voxels`` voxels, each the running mean of what fell into it.

Voxels are stored densely in slots; a hash table with linear probing, never more than half full, leads from
voxel to slot. So the cost of an insertion depends on its points, not on the size of the map. Once the map
is full, each eviction frees an eighth of it, which spreads the cost of rebuilding the table over as many new
voxels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from loger_ros.config import MapConfig
from loger_ros.mapping.cloud import Cloud

AXIS_BITS = 21  # a key packs three indices of this many bits: 2 million voxels along each axis
HALF = 1 << (AXIS_BITS - 1)
EVICTED = 8  # one part in this many is evicted from a full map at once


class VoxelMap:
    def __init__(self, config: MapConfig | None = None, device: torch.device | str = "cpu") -> None:
        self._config = config or MapConfig()
        capacity = self._config.max_voxels
        self._table = torch.empty(1 << (2 * capacity - 1).bit_length(), dtype=torch.int32, device=device)
        self._keys = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._means = torch.zeros(
            capacity, 7, device=device
        )  # place in the voxel (0 to 1), colour, confidence
        self._counts = torch.zeros(capacity, device=device)
        self._seen = torch.zeros(capacity, dtype=torch.int64, device=device)  # insertion that saw it last
        self._insertions = 0  # not stamps: clocks go back
        self._size = 0
        self._linked = True  # whether the table knows all voxels; not after an insertion that broke off
        self.beyond = False  # whether the newest insertion had points out of reach
        self.clear()

    @property
    def reach(self) -> float:
        """How far from the origin the map can extend along each axis."""
        return HALF * self._config.voxel_size

    def clear(self) -> None:
        self._size, self._linked = 0, True
        self._table.fill_(-1)

    def __len__(self) -> int:
        return self._size

    def insert(self, cloud: Cloud, T_map_camera: np.ndarray) -> None:
        """Points seen by a camera that is now at ``T_map_camera``."""
        self._insertions += 1
        self.beyond = False
        keys, counts, means = self._voxels(cloud)
        if not self._linked:
            self._relink()
        slots = self._find(keys)
        known = slots >= 0
        self._merge(slots[known], counts[known], means[known])
        keys, counts, means = keys[~known], counts[~known], means[~known]
        if self._size + len(keys) > self._config.max_voxels:
            kept = self._make_room(keys, torch.tensor(T_map_camera[:3, 3]))
            keys, counts, means = keys[kept], counts[kept], means[kept]
        new = slice(self._size, self._size + len(keys))
        self._keys[new], self._counts[new], self._means[new] = keys, counts, means
        self._seen[new] = self._insertions
        self._size, self._linked = new.stop, False
        self._link(new.start)
        self._linked = True

    def cloud(self) -> Cloud:
        """Return one point per voxel."""
        means, edge = self._means[: self._size], self._config.voxel_size
        points = means.new_empty(3, self._size)  # in columns, which are rotated and sent faster
        for axis, index in enumerate(_indices(self._keys[: self._size])):
            torch.add(index * edge, means[:, axis], alpha=edge, out=points[axis])
        return Cloud(points.T, means[:, 3:6].round().byte(), means[:, 6].clone())

    # ---- points to voxels -------------------------------------------------------------------------

    def _voxels(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor]:
        """Return distinct keys (k,), and counts (k,) and means (k, 7) of the points in each."""
        # In columns, so that what is scanned again and again lies together.
        values = torch.cat([cloud.points.T, cloud.colours.T.float(), cloud.confidence[None]])  # (7, n)
        values = values.to(self._means)
        scaled = values[:3].double() / self._config.voxel_size
        if not (bool((scaled.abs() < HALF).all()) and bool(values[6].sum().isfinite())):
            inside = ((scaled >= -HALF) & (scaled < HALF)).all(0) & values[6].isfinite()
            self.beyond = bool((~inside & scaled.isfinite().all(0) & values[6].isfinite()).any())
            values, scaled = values[:, inside], scaled[:, inside]
        corner = scaled.floor()
        values[:3] = scaled - corner
        x, y, z = corner.long() + HALF
        packed = (x << 2 * AXIS_BITS) | (y << AXIS_BITS) | z
        # Neighbouring pixels often see one voxel: of such a run, only the first has to be sorted.
        packed, row = packed.unique_consecutive(return_inverse=True)
        keys, voxel = packed.unique(return_inverse=True)
        voxel = voxel[row]
        counts = voxel.bincount(minlength=len(keys)).float()
        sums = values.new_zeros(7, len(keys)).index_add_(1, voxel, values)
        return keys, counts, (sums / counts).T

    def _merge(self, slots: Tensor, counts: Tensor, means: Tensor) -> None:
        total = self._counts[slots] + counts
        self._means[slots] += (means - self._means[slots]) * (counts / total)[:, None]
        self._counts[slots] = total
        self._seen[slots] = self._insertions

    # ---- the hash table ---------------------------------------------------------------------------

    def _find(self, keys: Tensor) -> Tensor:
        """(k,) → slots (k,), -1 where there is none."""
        slots = torch.full_like(keys, -1)
        search = torch.arange(len(keys), device=keys.device)
        place = self._hash(keys)
        while len(search):
            there = self._table[place].long()
            occupied = there >= 0
            hit = occupied & (self._keys[there.clamp_min(0)] == keys[search])
            slots[search[hit]] = there[hit]
            further = occupied & ~hit
            search, place = search[further], self._next(place[further])
        return slots

    def _link(self, start: int) -> None:
        """Enter the voxels in slots from ``start`` on in the table, in which none of them was before."""
        slots = torch.arange(start, self._size, dtype=torch.int32, device=self._table.device)
        place = self._hash(self._keys[start : self._size])
        while len(slots):
            free = self._table[place] < 0
            self._table[place[free]] = slots[free]  # if several want one place, any of them gets it
            waiting = self._table[place] != slots
            slots, place = slots[waiting], self._next(place[waiting])

    def _relink(self) -> None:
        self._linked = False
        self._table.fill_(-1)
        self._link(0)
        self._linked = True

    def _hash(self, keys: Tensor) -> Tensor:
        mixed = keys * -7046029254386353131  # 2^64 over the golden ratio, as a signed number
        mixed = (mixed ^ (mixed >> 32)) * -4658895280553007687
        return (mixed ^ (mixed >> 29)) & (len(self._table) - 1)

    def _next(self, place: Tensor) -> Tensor:
        return (place + 1) & (len(self._table) - 1)

    # ---- eviction ---------------------------------------------------------------------------------

    def _make_room(self, new_keys: Tensor, position: Tensor) -> Tensor:
        """Evict the least wanted of old and new voxels together; return which of the new ones stay."""
        keys = torch.cat([self._keys[: self._size], new_keys])
        if self._config.eviction == "distance":
            rank = torch.zeros(len(keys), dtype=torch.float64, device=keys.device)
            for index, place in zip(_indices(keys), position.tolist(), strict=True):
                rank += ((index.double() + 0.5) * self._config.voxel_size - place).square()
        else:
            new = torch.full_like(new_keys, self._insertions)
            rank = self._insertions - torch.cat([self._seen[: self._size], new])
        capacity = self._config.max_voxels
        kept = _lowest(rank, capacity - max(capacity // EVICTED, 1))
        stay = kept[: self._size].nonzero()[:, 0]
        columns = (self._keys, self._means, self._counts, self._seen)
        moved = [column[stay] for column in columns]  # all or nothing: a GPU may run out of memory
        for column, values in zip(columns, moved, strict=True):
            column[: len(stay)] = values
        self._size = len(stay)
        self._relink()
        return kept[len(kept) - len(new_keys) :]


def _indices(keys: Tensor) -> list[Tensor]:
    """(k,) → three of (k,): along x, y and z."""
    mask = (1 << AXIS_BITS) - 1
    return [(keys >> bits & mask) - HALF for bits in (2 * AXIS_BITS, AXIS_BITS, 0)]


def _lowest(rank: Tensor, count: int) -> Tensor:
    """(k,) → bool: the ``count`` lowest; among equals, the first."""
    limit = rank.kthvalue(count).values
    chosen = rank < limit
    equal = (rank == limit).nonzero()[:, 0]
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen
