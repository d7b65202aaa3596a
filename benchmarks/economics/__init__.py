"""The economic model: what serving costs at a volume, what a hosted model would cost, and where the two cross.

Pure functions over frozen inputs, without I/O except reading a what-if file. docs/economics.md names the formulas, what
each module holds and what the model leaves out. Formula numbers in docstrings refer to that page.
"""
