"""Bounds the header Content-Length before it is read as a number."""

from typing import Final

CONTENT_LENGTH_DIGITS: Final = 18
"""More are zeros in front, or a number that is not meant; Python reads a few thousand at most."""
