"""The name and the version that this server reports about itself."""

from importlib.metadata import version

NAME = "PRISM"
VERSION = version("prism-serve")
