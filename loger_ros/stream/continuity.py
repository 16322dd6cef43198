"""Does a frame continue the stream? Stamps that repeat, come late, jump or pause; images of another size."""

from __future__ import annotations

from dataclasses import dataclass

LATE = 1_000_000_000  # ns: a frame that comes late by less is a straggler, by more the clock was set back


@dataclass(frozen=True)
class Verdict:
    """drop: the frame is of no use; restart: it begins a new memory; neither: it continues the stream."""

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
        """From now on this frame is the one to be continued. Without a shape none is compared."""
        self._newest, self._shape = stamp, shape

    def judge(self, stamp: int, shape: tuple[int, ...] = ()) -> Verdict:
        if self._newest is None:
            return Verdict()
        step = stamp - self._newest
        if step == 0:
            message = f"a second frame is stamped {stamp} and was dropped; check the camera driver"
            return Verdict(drop=True, event="duplicate_stamp", message=message)
        if -LATE <= step < 0:
            message = (
                f"a frame came {-step * 1e-6:.1f} ms behind a newer one and was dropped; "
                "check the order in which the images are sent"
            )
            return Verdict(drop=True, event="out_of_order", message=message)
        if step < 0:
            message = (
                f"stamps jumped back by {-step * 1e-9:.3f} s (a bag that loops, a clock that was set); "
                "starting a new memory"
            )
            return Verdict(restart=True, event="clock_went_back", message=message)
        if self._max_gap and step > self._max_gap:
            message = (
                f"no frame for {step * 1e-9:.3f} s by their stamps; starting a new memory. "
                "If nobody paused it or set its clock, check the camera, and whether queue_full says that "
                "the network is too slow; raise max_gap if such pauses are normal"
            )
            return Verdict(restart=True, event="long_gap", message=message)
        if shape != self._shape:
            message = f"images changed from {_text(self._shape)} to {_text(shape)}; starting a new memory"
            return Verdict(restart=True, event="size_changed", message=message)
        return Verdict()


def _text(shape: tuple[int, ...]) -> str:
    height, width = shape[:2]
    return f"{width}x{height}"
