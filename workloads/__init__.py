"""Workloads: what an optimizer is raced on, as pure losses of one run.

One file per workload: the file's name is the name in the catalogue, and the class in it is that name in
CamelCase. Files that begin with an underscore are helpers. The catalogue reads the files without running
them (by `ast`), so a class keeps to this rule: every field has an annotation and a literal default, and
what is not in the class itself is in a base class imported by `from ._helper import Base`, whose own
annotated fields come first. A field that is named again keeps its place and takes the new default, as in
`dataclasses`.
"""
