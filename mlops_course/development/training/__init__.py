"""From rows with labels to a model that decides, with a record of how it was made.

    candidates                           three models to compare, simplest first
    TimeFolds                            cross-validation in order of time, purged of labels that come late
    cross_validate_in_time               metrics of a model, fold by fold
    search                               random search for parameters, over the same folds
    simplest_within_one_standard_error   the model that is hardly worse than the best, and simpler
    calibrate                            probabilities that mean what they say
    cost_threshold, best_threshold       from the net costs of errors to the probability at which to act
    decide                               a model that acts at that probability
    track                                the MLflow record of one fit
    code_version, environment, libraries what code, what Python and which libraries the fit was made with

>>> import numpy as np
>>> import pandas as pd
>>> random = np.random.default_rng(0)
>>> inputs = pd.DataFrame({"load": random.normal(size=400), "site": random.choice(["north", "south"], size=400)})
>>> failed = (inputs["load"] + random.normal(size=400) > 0).astype(float)
>>> asked = pd.Series(pd.date_range("2013-01-01", periods=400, freq="h", tz="UTC"))
>>> rows = {"target": failed, "folds": TimeFolds(3, prediction_time=asked, label_time=asked + pd.Timedelta("5h"))}
>>> models = candidates(None, numeric=["load"], categorical=["site"], seed=0)
>>> losses = {name: cross_validate_in_time(model, inputs, **rows)["log_loss"] for name, model in models.items()}
>>> simplest_within_one_standard_error(pd.DataFrame(losses))
'logistic_regression'
"""

from .models import best_threshold, calibrate, candidates, cost_threshold, decide
from .selection import FOLDS, TimeFolds, cross_validate_in_time, search, simplest_within_one_standard_error
from .tracking import TrackedRun, code_version, environment, libraries, track

__all__ = [
    "FOLDS",
    "TimeFolds",
    "TrackedRun",
    "best_threshold",
    "calibrate",
    "candidates",
    "code_version",
    "cost_threshold",
    "cross_validate_in_time",
    "decide",
    "environment",
    "libraries",
    "search",
    "simplest_within_one_standard_error",
    "track",
]
