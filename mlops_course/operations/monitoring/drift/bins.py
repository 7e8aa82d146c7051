"""Bins: where their edges lie, and in which bin each value falls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

COARSE_BINS = 10  # for PSI, JS and chi-squared: the deciles of the reference, as is usual for PSI
MAX_CATEGORIES = 10_000  # more are not categories but identifiers, which are new in every window
STEPS = 2**20  # in the reference's range: a distance beyond the range is kept in whole steps
MAX_STEPS = 2**36  # 65,536 ranges away counts as far as infinity; 2^27 such rows still fit 64 bits


def _edges(values: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the fine bins of a sample and, among them, the upper ends of its coarse bins but the last."""
    values = np.sort(values[np.isfinite(values)])
    distinct = np.unique(values)
    if len(distinct) <= COARSE_BINS:
        return distinct, distinct[:-1]
    deciles = _quantiles(values, COARSE_BINS)
    cuts = deciles[deciles < values[-1]]
    if len(distinct) <= bins:
        return distinct, cuts
    even = np.searchsorted(values, np.linspace(values[0], values[-1], bins // 2 + 1)[1:-1])
    neighbours = values[np.concatenate([[0, -1], even - 1, even])]  # values on either side of each even step
    return np.unique(np.concatenate([neighbours, _quantiles(values, bins), cuts])), cuts


def _quantiles(values: np.ndarray, parts: int) -> np.ndarray:
    return np.unique(np.quantile(values, np.arange(1, parts) / parts, method="inverted_cdf"))


def _categories(values: pd.Series) -> pd.Index:
    found = pd.Index(values.dropna().unique(), dtype=object)
    if len(found) > MAX_CATEGORIES:
        raise ValueError(f"{values.name} has {len(found):,} categories; expected at most {MAX_CATEGORIES:,}: leave out")
    return found[np.argsort([str(value) for value in found], kind="stable")]


def _numeric_codes(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value: 0 if missing, else 1 + 2 × the edges below it, and one more if it is an edge itself."""
    below = np.searchsorted(edges, values)
    codes = 1 + 2 * below + (np.append(edges, np.nan)[below] == values)
    return np.where(np.isnan(values), 0, codes)


def _category_codes(values: pd.Series, categories: pd.Index) -> np.ndarray:
    """The bin of each value: 0 if missing, 1 if unknown, else 2 + its place among the categories."""
    codes, found = pd.factorize(values)
    place = np.append(categories.get_indexer(pd.Index(found, dtype=object)) + 2, 0)  # unknown is -1 + 2, missing last
    return place[codes]


def _step(edges: np.ndarray) -> float:
    """The unit in which distances beyond the range are counted."""
    return float(np.ptp(edges) or abs(edges[0]) or 1.0) / STEPS if len(edges) else 1 / STEPS


def _add_excess(excess: np.ndarray, group: np.ndarray, values: np.ndarray, edges: np.ndarray) -> None:
    """Add to each group's `excess` how far values lie below and above the range, in whole steps: sums are exact."""
    for side, away in enumerate((edges[:1] - values, values - edges[-1:]) if len(edges) else ()):
        beyond = away > 0
        with np.errstate(over="ignore", divide="ignore"):  # of a step near zero every distance is far
            steps = np.rint(np.minimum(away[beyond] / _step(edges), MAX_STEPS)).astype(np.int64)
        np.add.at(excess[:, side], group[beyond], steps)


def _numbers(values: pd.Series) -> np.ndarray:
    """The values as floats, missing ones NaN; times as their hour of the day."""
    if pd.api.types.is_datetime64_any_dtype(values):
        values = values.dt.hour
    try:
        return values.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise TypeError(
            f"expected numbers in {values.name!r}, got {values.dtype}; convert it, or take it as categorical"
        ) from None


def _require(rows: pd.DataFrame, names: Sequence[str]) -> None:
    lost = [name for name in dict.fromkeys(names) if name not in rows.columns]
    if lost:
        raise KeyError(f"columns {lost} are not in the rows; got {list(rows.columns)}")
