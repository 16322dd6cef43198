"""Reading ahead, so that the network never waits for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
AHEAD = 16  # items that may wait


def read_ahead(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """Yield the same items in the same order, produced by a separate thread; its errors are raised here."""
    waiting: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(last: bool, item: T | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put((last, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put(False, item):
                    return
        except Exception as error:  # raised when the next item is taken
            put(True, error)
            return
        put(True, None)

    reader = threading.Thread(target=read, name="read_ahead", daemon=True)
    reader.start()
    try:
        while True:
            last, item = waiting.get()
            if last:
                if isinstance(item, BaseException):
                    raise item
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        reader.join(timeout=10)
