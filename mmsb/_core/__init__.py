"""Bindings: thin Cython over csrc. Nothing above the model imports from here."""
