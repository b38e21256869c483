"""Bounds the header Content-Length before it is read as a number."""

from typing import Final

CONTENT_LENGTH_DIGITS: Final = 18
"""Most digits that are read. More are leading zeros or nonsense; Python itself reads a few thousand at most."""
