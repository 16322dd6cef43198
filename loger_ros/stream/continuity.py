"""Does a frame continue the stream? Stamps may repeat, come late, jump or pause; image sizes may change."""

from __future__ import annotations

from dataclasses import dataclass

LATE = 1_000_000_000  # ns: a frame late by at most this is a straggler; if later, the clock was set back


@dataclass(frozen=True)
class Verdict:
    """drop: the frame cannot be used; restart: it starts a new memory; neither: it continues the stream."""

    drop: bool = False
    restart: bool = False
    event: str = ""
    message: str = ""


class Continuity:
    def __init__(self, max_gap: float) -> None:
        """max_gap in seconds; 0 accepts any pause."""
        self._max_gap = round(max_gap * 1e9)  # ns
        self._newest: int | None = None  # ns
        self._shape: tuple[int, ...] = ()

    def accept(self, stamp: int, shape: tuple[int, ...] = ()) -> None:
        """Make this the frame that the next must continue. If no shapes are given, none are compared."""
        self._newest, self._shape = stamp, shape

    def judge(self, stamp: int, shape: tuple[int, ...] = ()) -> Verdict:
        if self._newest is None:
            return Verdict()
        step = stamp - self._newest
        if step == 0:
            message = f"a second frame with the stamp {stamp} was dropped; check the camera driver"
            return Verdict(drop=True, event="duplicate_stamp", message=message)
        if -LATE <= step < 0:
            message = (
                f"a frame {-step * 1e-6:.1f} ms older than the newest one was dropped; "
                "check the order in which the images are sent"
            )
            return Verdict(drop=True, event="out_of_order", message=message)
        if step < 0:
            message = (
                f"stamps jumped back by {-step * 1e-9:.3f} s (a looping bag, or a clock that was set back); "
                "starting a new segment"
            )
            return Verdict(restart=True, event="clock_went_back", message=message)
        if self._max_gap and step > self._max_gap:
            message = (
                f"no frame for {step * 1e-9:.3f} s according to the stamps; starting a new segment. "
                "If nobody paused the stream or set the clock, check the camera, and whether queue_full says "
                "that the network is too slow. Raise stream.max_gap if such pauses are normal"
            )
            return Verdict(restart=True, event="long_gap", message=message)
        if shape != self._shape:
            message = f"images changed from {_text(self._shape)} to {_text(shape)}; starting a new segment"
            return Verdict(restart=True, event="size_changed", message=message)
        return Verdict()


def _text(shape: tuple[int, ...]) -> str:
    height, width = shape[:2]
    return f"{width}x{height}"
