"""The filters of Pillow, which version 9.0 (the one in Ubuntu 22.04) has in the module itself."""

from __future__ import annotations

from typing import Any

from PIL import Image

FILTERS: Any = getattr(Image, "Resampling", Image)
