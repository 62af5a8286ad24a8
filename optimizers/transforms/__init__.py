"""Transforms: optimizers around an optimizer. A file is a transform; its name is the transform's."""
