"""The kinds of model that are tried, the simplest first."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

RARE = 0.001  # a category in a smaller share of the training rows shares one column with the other rare ones
MAX_CATEGORIES = 254  # histogram gradient boosting can tell 255 values of a column apart; the rarest share the last


def candidates(
    derive: Callable[[pd.DataFrame], pd.DataFrame] | None,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    seed: int,
) -> dict[str, Pipeline]:
    """Unfitted models to compare, simplest first: `base_rate`, `logistic_regression`, `gradient_boosting`.

    Each is a pipeline from inputs to a probability: `derive` (row by row, without state; None for none), `encode`,
    `classify`. `numeric` and `categorical` are columns of what `derive` returns. A missing value or a category never
    seen in training gets an answer, not an error. The same rows and `seed` give the same model. With up to 200,000 rows
    any seed does: only the bins of boosting are drawn by chance, and only from more rows than that.

    Raises ValueError if `derive` cannot be imported by name, as a lambda cannot: such a model could not be saved.
    """
    if derive is not None and "<" in getattr(derive, "__qualname__", "<"):
        raise ValueError(f"expected a function that can be imported, got {derive!r}; define it with def in a module")

    def pipeline(*steps: tuple[str, BaseEstimator]) -> Pipeline:
        return Pipeline([("derive", FunctionTransformer(derive)), *steps] if derive is not None else list(steps))

    columns = {"numeric": list(numeric), "categorical": list(categorical)}
    return {
        "base_rate": pipeline(("classify", DummyClassifier(strategy="prior"))),
        "logistic_regression": pipeline(
            ("encode", _encoder_for_regression(**columns)),
            ("classify", LogisticRegression(solver="newton-cholesky", random_state=seed)),
        ),
        "gradient_boosting": pipeline(
            ("encode", _encoder_for_trees(**columns)),
            ("classify", _boosting(number_of_categorical=len(categorical), seed=seed)),
        ),
    }


def _encoder_for_regression(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE)
    scaled = make_pipeline(_gap_filler(), StandardScaler())
    return ColumnTransformer([("categorical", one_hot, categorical), ("numeric", scaled, numeric)])


def _encoder_for_trees(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,  # as if missing, which trees can answer
        encoded_missing_value=np.nan,
        max_categories=MAX_CATEGORIES,
    )
    return ColumnTransformer([("categorical", codes, categorical), ("numeric", _gap_filler(), numeric)])


def _gap_filler() -> SimpleImputer:
    """Medians for missing numbers, and columns that say where they were missing.

    For trees too, though they can do without: a column that was always missing (a dead sensor) stops their fit in
    scikit-learn 1.9, and must not stop a retraining.
    """
    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


def _boosting(*, number_of_categorical: int, seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=50,
        l2_regularization=1.0,
        early_stopping=False,  # it would judge by rows held out at random, out of their time
        categorical_features=list(range(number_of_categorical)),  # by position: the encoder puts them first
        random_state=seed,
    )
