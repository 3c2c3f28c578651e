"""Port knocking: configurations, matching, live capture, knocking and probing."""

from portknock._native import __version__

__all__ = ["__version__"]
