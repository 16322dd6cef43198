"""Groups frames into chunks of ``size`` that share ``overlap`` frames with the chunk before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Chunk(Generic[Item]):
    index: int
    start: int  # index of the first item in the stream
    items: tuple[Item, ...]


class Chunker(Generic[Item]):
    """A stream cannot know that a full chunk is its last: a short tail exists only if items came after."""

    def __init__(self, size: int, overlap: int) -> None:
        if not 0 <= overlap < size:
            raise ValueError(
                f"overlap {overlap} with chunk_size {size} would lose frames: use 0 <= overlap < chunk_size"
            )
        self.size = size
        self.overlap = overlap
        self._growing: Chunk[Item] = Chunk(0, 0, ())

    @property
    def growing(self) -> Chunk[Item]:
        """What has arrived of the next chunk, including the shared frames."""
        return self._growing

    @property
    def fresh(self) -> int:
        """The number of items that have not been in any chunk yet."""
        shared = self.overlap if self._growing.index else 0
        return len(self._growing.items) - shared

    def push(self, item: Item) -> Chunk[Item] | None:
        """Add an item and return the chunk that it completes, if any."""
        growing = self._growing
        full = Chunk(growing.index, growing.start, (*growing.items, item))
        if len(full.items) < self.size:
            self._growing = full
            return None
        step = self.size - self.overlap
        self._growing = Chunk(full.index + 1, full.start + step, full.items[step:])
        return full

    def tail(self) -> Chunk[Item] | None:
        """The short last chunk, if there is one."""
        return self._growing if self.fresh else None
