"""Drift: how the rows of a window differ from a reference, from counts that add up.

    windows            the window of each row: each row in exactly one, the newest included
    reference          fine bins made once, from a chosen sample, such as the rows a model was trained on
    summarise          a window's counts over those bins; summaries add up, so a year is the sum of its days
    summarise_by       the summaries of all windows in one pass
    drift, drift_by    every measure for every feature, against the reference or against another summary
    trailing           the sum of the windows just before one: another reference to choose
    drift_by_slice     drift within each supplier or region
    domain_classifier  a shift that no single feature shows: can a model tell the two samples apart?

The bins always come from the reference: bins made from each window would move with the drift and hide it. Against the
training sample, drift says how far the inputs are from what the model has learnt, and a season is drift. Against the
weeks before, a season is no drift, a sudden change stands out, and a slow change does not show.

>>> import numpy as np
>>> import pandas as pd
>>> trained = pd.DataFrame({"size": np.random.default_rng(7).normal(size=5_000)})
>>> bins = reference(trained, numeric=["size"], categorical=[])
>>> days = summarise(trained[:1_000], bins), summarise(trained[1_000:2_000] + 1.0, bins)
>>> [round(float(drift(day).loc["size", "psi"]), 1) for day in days]
[0.0, 0.9]
>>> sum(days).rows
2000
"""

from .domain_classifier import JointShift, domain_classifier
from .measures import drift, drift_by, drift_by_slice
from .summaries import Reference, Summary, reference, summarise, summarise_by, trailing, windows

__all__ = [
    "JointShift",
    "Reference",
    "Summary",
    "domain_classifier",
    "drift",
    "drift_by",
    "drift_by_slice",
    "reference",
    "summarise",
    "summarise_by",
    "trailing",
    "windows",
]
