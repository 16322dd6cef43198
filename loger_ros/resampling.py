"""The filters of Pillow, which version 9.0 (that of Ubuntu 22.04) keeps in the module itself."""

from __future__ import annotations

from typing import Any

from PIL import Image

FILTERS: Any = getattr(Image, "Resampling", Image)
