"""Optimizers as pure update rules, one file per method, and their binding to `tf.Variable`s.

`optimizers/<name>.py` holds the method `<name>`, `optimizers/transforms/<name>.py` what wraps one.
`VariableOptimizer` runs any of them on the variables of a training loop of your own, and `FlatVariables`
keeps many small variables in one buffer, which one update walks over at once. `fuse_outputs` lets XLA write
several arrays from one kernel on a CPU.
"""

from ._flat import FlatVariables
from ._one_pass import fuse_outputs
from ._types import Optimizer
from ._variables import VariableOptimizer

__all__ = ["FlatVariables", "Optimizer", "VariableOptimizer", "fuse_outputs"]
