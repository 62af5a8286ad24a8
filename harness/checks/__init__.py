"""Contract suites for optimizers and workloads, a stranger's as well as the catalogue's.

They import TensorFlow: import a suite where it is run, not before.
"""
