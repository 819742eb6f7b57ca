"""The command line: verbs made from typed functions, errors of one line."""

from pixelkin.cli.app import main

__all__ = ["main"]
