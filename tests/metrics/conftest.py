"""Hypothesis here: the same examples every time, and no deadline (a shared machine may stall)."""

from hypothesis import settings

settings.register_profile("metrics", deadline=None, derandomize=True)
settings.load_profile("metrics")
