"""Argument types that several commands share."""

from __future__ import annotations

import argparse

LOWEST, HIGHEST = 0.001, 10_000.0  # Hz, of images


def image_size(text: str) -> tuple[int, int]:
    """ "640x480" → (640, 480), width first."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)


def rate(text: str) -> float:
    """Hz."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LOWEST <= value <= HIGHEST:  # also of NaN
        raise argparse.ArgumentTypeError(f"{text!r}: expected a rate of {LOWEST:g} to {HIGHEST:g} Hz")
    return value
