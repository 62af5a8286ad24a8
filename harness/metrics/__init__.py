"""Measures: pure functions of arrays, one small module per family; no frames, no files, no drawing.

Conventions, used throughout. Groups come first and runs last: `[..., runs]`. NaN means "no such run" and is
left out; `inf` means a run that failed (a missed target, a diverged loss) and counts as the worst value there
is. Lower is better. A `numpy.random.Generator` is passed in wherever something is drawn, and equal inputs
give equal figures whatever the order of rows that they came in.
"""
