"""The name and the version under which this server speaks of itself."""

from importlib.metadata import version

NAME = "PRISM"
VERSION = version("prism-serve")
