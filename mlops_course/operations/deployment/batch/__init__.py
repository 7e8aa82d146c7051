"""Predictions in batch: from a file of inputs to a file of predictions, once, however often it is started or killed.

    conform       a frame made to fit the model's contract, or an error that names column, expectation and value
    problems      every value that does not fit, instead of an error for the first
    predict       inputs to predictions: probability and decision for each row
    score_file    a Parquet or CSV file of any length, part by part, into another one that is there whole or not at all
    count_rows    how many rows a file says that it has

Killed and started again, `score_file` goes on after the last part; when all is done, it does nothing. Rows that do not
fit are set aside with the reasons. To have the parts scored elsewhere, there are its own steps: `ScoringRun` says what
is left, `parts` and `chunks` read the source, `score_part` scores one, and `replace_file` writes.

>>> import numpy as np
>>> import pandas as pd
>>> class Constant:
...     def predict_proba(self, inputs):
...         return np.tile([0.7, 0.3], (len(inputs), 1))
>>> rows = conform(pd.DataFrame({"id": ["a"], "temp": ["3.5"]}), {"temp": "double"})
>>> predict(Constant(), rows, threshold=0.2).to_dict("records")
[{'probability': 0.3, 'decision': True}]
>>> problems(pd.DataFrame({"temp": ["3.5", "warm"]}), {"temp": "double"}).to_dict("records")
[{'row': 1, 'column': 'temp', 'expected': 'a number', 'value': 'warm'}]
"""

from .scoring import ROWS_PER_PART, Scored, ScoringRun, chunks, count_rows, parts, replace_file, score_file, score_part
from .values import conform, predict, problems

__all__ = [
    "ROWS_PER_PART",
    "Scored",
    "ScoringRun",
    "chunks",
    "conform",
    "count_rows",
    "parts",
    "predict",
    "problems",
    "replace_file",
    "score_file",
    "score_part",
]
