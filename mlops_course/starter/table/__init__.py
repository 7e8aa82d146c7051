"""How a table is read and judged: what each column is, what was decided about it, and why.

    look      encoding and separator of a file, and its cells
    infer     every decision about the table, by what it holds and by the user's `Choices`: a `Judgement`

What cannot be decided from the table is an error that says what to do; everything else is decided, with its reason.
"""

from .draft import Choices, Finding
from .file import look
from .judgement import Judgement, infer

__all__ = ["Choices", "Finding", "Judgement", "infer", "look"]
