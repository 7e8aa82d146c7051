"""Measures of drift between two summaries, and between many at once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .summaries import Reference, Summary, _require_same_bins, _step, summarise_by

EMPTY = 0.5  # rows that an empty bin counts for, so that no share is 0 and no logarithm infinite


def drift(current: Summary, against: Summary | None = None) -> pd.DataFrame:
    """Measure the drift of each feature: `current` against the reference's own sample or another summary.

    - psi: population stability index over the deciles of the reference and missing values; or over its categories,
      unknown and missing. An empty bin counts as half a row. A stable feature has about
      (bins - 1) × (1 / rows + 1 / rows against).
    - js: Jensen-Shannon distance over the same bins: the root of the divergence in nats, 0 to 0.83.
    - chi2, chi2_df, chi2_p: chi-squared test of the two rows of counts over the same bins.
    - ks: Kolmogorov-Smirnov statistic of the values that are there. Exact where each distinct value has a bin; else
      too small by 1 / 500 at most, against the reference's own sample.
    - wasserstein: how far the values that are there have to move on average, in the feature's units; wasserstein_scaled
      in standard deviations of `against`. Exact where each value has a bin, else close. Values beyond the range count
      by their distance; where both sides have some beyond the same end, by the difference of their mean distances.
    - missing, unknown, out_of_range: shares of rows; missing_rise: missing less the share in `against`.

    A measure that does not apply to a feature is NaN, such as ks of categories; so are all of them without rows.

    Raises ValueError if the summaries are over different bins. Sources: Siddiqi 2006 for PSI; Lin 1991 for JS.
    """
    return _drift_of_pairs([None], [current], [against], "window").droplevel("window").drop(columns="rows")


def drift_by(summaries: Mapping[object, Summary], against: Summary | None = None) -> pd.DataFrame:
    """Measure the drift of each window, indexed by window and feature; quick for hundreds of windows.

    Raises ValueError if there are no summaries or they are over different bins.
    """
    return _drift_of_pairs(list(summaries), list(summaries.values()), [against], "window")


def drift_by_slice(
    rows: pd.DataFrame, reference: Reference, *, against_rows: pd.DataFrame, slices: Sequence[str]
) -> pd.DataFrame:
    """Measure drift within each value of each slice column, against the same value's rows in `against_rows`.

    Each slice is compared with itself, so a change of the mix between slices is no drift. Indexed by slice, value and
    feature, with the number of `rows` first: slices with few rows drift by chance. A value that only one side has is
    left out.

    Raises KeyError if a column is not there.
    """
    tables = []
    for name in slices:
        now = summarise_by(rows, reference, window=_slice_values(rows[name]))
        before = summarise_by(against_rows, reference, window=_slice_values(against_rows[name]))
        both = [value for value in now if value in before]
        if both:
            pairs = [now[value] for value in both], [before[value] for value in both]
            tables.append(pd.concat({name: _drift_of_pairs(both, *pairs, "value")}, names=["slice"]))
    return pd.concat(tables)


def _slice_values(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "missing").astype(str)


def _drift_of_pairs(
    keys: list, current: Sequence[Summary], against: Sequence[Summary | None], level: str
) -> pd.DataFrame:
    """Measure the drift of each current summary against its own partner, or against one partner for all."""
    if not keys:
        raise ValueError("expected at least one summary, got none")
    bins = current[0].reference
    compared = [bins.summary if one is None else one for one in against]
    for one in [*current, *compared]:
        _require_same_bins(current[0], one)
    tables = [_measures(name, current, compared) for name in bins.features]
    columns = {name: np.column_stack([table[name] for table in tables]).ravel() for name in tables[0]}
    index = pd.MultiIndex.from_product([keys, bins.features], names=[level, "feature"])
    return pd.DataFrame({"rows": np.repeat([one.rows for one in current], len(bins.features)), **columns}, index=index)


def _measures(name: str, current: Sequence[Summary], against: Sequence[Summary]) -> dict[str, np.ndarray]:
    """The columns of `drift` for one feature, an entry for each current summary.

    Here and below, `q` and `p` are counts of current and compared rows: lines are windows, columns bins.
    """
    bins = current[0].reference
    q, p = (np.stack([one.counts[bins._places[name]] for one in side]).astype(float) for side in (current, against))
    p = np.broadcast_to(p, q.shape)
    n, m = q.sum(axis=1), p.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        missing, missing_before = q[:, 0] / n, p[:, 0] / m
        shares = {"missing": missing, "missing_rise": missing - missing_before}
        unknown = np.full(len(q), np.nan)
        if name not in bins.edges:
            fine = dict.fromkeys(["ks", "wasserstein", "wasserstein_scaled"], unknown)
            return _coarse_measures(q, p) | fine | shares | {"unknown": q[:, 1] / n, "out_of_range": unknown}
        edges, row = bins.edges[name], list(bins.edges).index(name)
        ends = 3 + 2 * np.searchsorted(edges, bins.cuts[name])  # a coarse bin ends with its edge itself
        coarse = [np.add.reduceat(counts, [0, 1, *ends], axis=1) for counts in (q, p)]
        beyond = [np.stack([one.excess[row] for one in side]) * _step(edges) for side in (current, against)]
        outside = q[:, 1] + (q[:, -1] if len(edges) else 0)
        shares |= {"unknown": unknown, "out_of_range": outside / n}
        return _coarse_measures(*coarse) | _fine_measures(q[:, 1:], p[:, 1:], beyond, edges) | shares


def _coarse_measures(q: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
    """PSI, Jensen-Shannon distance and chi-squared over the coarse bins or the categories."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2

    n, m = q.sum(axis=1, keepdims=True), p.sum(axis=1, keepdims=True)
    used = (q > 0) | (p > 0)
    now, before = np.maximum(q, EMPTY) / n, np.maximum(p, EMPTY) / m
    psi = np.sum((now - before) * np.log(now / before), axis=1, where=used)
    expected = (q + p) * n / (n + m)
    statistic = np.sum((q - expected) ** 2 / (expected * m / (n + m)), axis=1, where=used)
    degrees = used.sum(axis=1) - 1.0
    found = {
        "psi": psi,
        "js": np.nan_to_num(jensenshannon(q, p, axis=1)),  # NaN where rounding makes a divergence of 0 negative
        "chi2": statistic,
        "chi2_df": degrees,
        "chi2_p": chi2.sf(statistic, np.maximum(degrees, 1.0)),
    }
    some_rows = ((n > 0) & (m > 0)).ravel()
    return {name: np.where(some_rows, values, np.nan) for name, values in found.items()}


def _fine_measures(
    q: np.ndarray, p: np.ndarray, beyond: Sequence[np.ndarray], edges: np.ndarray
) -> dict[str, np.ndarray]:
    """Kolmogorov-Smirnov and Wasserstein over the fine bins, without the bin of missing values.

    `beyond` holds the total distances below and above the range of both sides.
    """
    n, m = q.sum(axis=1, keepdims=True), p.sum(axis=1, keepdims=True)
    gap = np.cumsum(q, axis=1) / n - np.cumsum(p, axis=1) / m
    left, right = gap[:, 1:-2:2], gap[:, 2:-1:2]  # at the ends of each bin between two edges
    area = np.abs(left) + np.abs(right)
    crossing = np.where(left * right < 0, (left**2 + right**2) / area, area) / 2
    wasserstein = crossing @ np.diff(edges) + np.abs(beyond[0] / n - beyond[1] / m).sum(axis=1)
    deviation = _standard_deviation(p, beyond[1], edges)
    return {
        "ks": np.abs(gap).max(axis=1),
        "wasserstein": wasserstein,
        "wasserstein_scaled": np.where(deviation > 0, wasserstein / deviation, np.nan),
    }


def _standard_deviation(counts: np.ndarray, beyond: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Standard deviation of the values in fine bins; those between two edges count as the middle of their bin."""
    if len(edges) == 0:
        return np.full(len(counts), np.nan)
    middles = (edges[:-1] + edges[1:]) / 2
    inner = np.sort(np.concatenate([edges, middles])) - edges[0]
    tails = beyond / np.maximum(counts[:, [0, -1]], 1)
    places = np.column_stack([-tails[:, 0], np.tile(inner, (len(tails), 1)), inner[-1] + tails[:, 1]])
    places = np.broadcast_to(places, counts.shape)
    total = counts.sum(axis=1, keepdims=True)
    mean = (counts * places).sum(axis=1, keepdims=True) / total
    return np.sqrt((counts * (places - mean) ** 2 / total).sum(axis=1))
