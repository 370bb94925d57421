"""How what came out is named in a file system."""

from __future__ import annotations

import re


def slug(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "data"
