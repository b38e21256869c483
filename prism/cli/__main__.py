"""Entry point of `python -m prism.cli`, for a checkout that is not installed."""

from prism.cli import main

main()
