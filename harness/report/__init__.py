"""The report: rows in, one folder out that opens from disk, reads on a phone, and needs no network."""

from .render import render

__all__ = ["render"]
