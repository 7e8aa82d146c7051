"""How a table is read and judged: what each column is, what was decided about it, and why.

    look      encoding and separator of a file, and its cells
    infer     every decision about the table for a target, as a `Judgement`: a plan to read it by, and one line a column

Decisions err on the safe side. What cannot be decided from the table stops with what was expected, what came and what
to do; everything else is decided, and said. A figure that was inferred carries its reason with it.
"""

from .file import look
from .finding import Finding
from .judgement import Judgement, infer

__all__ = ["Finding", "Judgement", "infer", "look"]
