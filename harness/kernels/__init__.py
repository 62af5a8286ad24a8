"""The kernel profiler: what one update costs, and how far that is from the hardware's limit.

Two halves. `schema`, `shapes`, `hlo`, `words` and `compare` work on text and rows and import no
TensorFlow; `device`, `rules`, `ours`, `peers`, `measure`, `steps` and `run` measure, in a process of their
own, since a kernel is timed with all cores and a grid runs with one thread inside an operation.
"""
