"""Argument types that several commands share."""

from __future__ import annotations

import argparse


def image_size(text: str) -> tuple[int, int]:
    """ "640x480" → (640, 480), width first."""
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and 0 < int(width) * int(height) <= 2**26):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(width), int(height)
