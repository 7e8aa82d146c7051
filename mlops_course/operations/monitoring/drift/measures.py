"""Measures of drift between two summaries, and between many at once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .summaries import CHUNK, Reference, Summary, _Layout, _require, _same_bins, summarise_by

EMPTY = 0.5  # rows that an empty bin counts for, so that no share is 0 and no logarithm infinite


def drift(current: Summary, against: Summary | None = None) -> pd.DataFrame:
    """Every measure of drift, one line a feature: `current` against the reference's own sample or another summary.

    - psi: population stability index over the deciles of the reference, values beyond its range in the outer ones,
      and missing values as a bin of their own; or over its categories, with unknown and missing. An empty bin counts
      as half a row, a bin that is empty on both sides is left out. Depends on the number of rows: a stable feature
      has about (bins - 1) × (1 / rows + 1 / rows against).
    - js: Jensen-Shannon distance over the same bins: the root of the divergence in nats, 0 to 0.83.
    - chi2, chi2_df, chi2_p: chi-squared of the two rows of counts over the same bins, its degrees of freedom, and the
      probability of as much if both were drawn at random from one population.
    - ks: Kolmogorov-Smirnov statistic, of the values that are there. Exact where the feature has a bin for each
      distinct value; else too small by at most the greatest, over bins between edges, of the lesser of both shares:
      never more than about 1 / bins against the reference's own sample.
    - wasserstein: how far values have to move on average, in the feature's units, of the values that are there;
      wasserstein_scaled in standard deviations of `against`. Exact likewise; else wrong by at most half the sum, over
      bins between edges, of width × both shares, to which the reference's own sample adds a `bins`th of its range at
      most. Values beyond the range count by their distance, in steps of a millionth of the range; where both sides
      have some beyond the same end, the difference of their mean distances is taken, which may be too little.
    - missing, unknown, out_of_range: shares of rows; with _rise: less the share in `against`.
    - largest_bin: share of the fullest fine bin among values that are there: close to 1 when a sensor is stuck.
    - mean, spread: mean and standard deviation, values between edges counting as the middle of their bin.

    What makes no sense for a feature is NaN: ks of categories, unknown of numbers, all where there are no rows.

    Raises ValueError if the summaries are over different bins. Sources: Siddiqi 2006 for PSI; Lin 1991 for JS.
    """
    compared = current.reference.summary if against is None else against
    _same_bins(current, compared)
    (table,) = _measures([current], [compared])
    return pd.DataFrame(table, index=pd.Index(current.reference.features, name="feature"))


def drift_by(summaries: Mapping[object, Summary], against: Summary | None = None) -> pd.DataFrame:
    """`drift` of each window, indexed by window and feature: one vectorised pass, for hundreds of windows.

    Raises ValueError if there are no summaries or they are over different bins.
    """
    return _drift_of_pairs(list(summaries), list(summaries.values()), [against], "window")


def drift_by_slice(
    rows: pd.DataFrame,
    reference: Reference,
    *,
    against_rows: pd.DataFrame,
    slices: Sequence[str],
    features: Sequence[str] | None = None,
) -> pd.DataFrame:
    """`drift` within each value of each slice column, against the same value's rows in `against_rows`.

    Each slice is compared with itself, so a change of the mix between slices is none within them. Indexed by slice,
    value and feature, with the numbers of `rows` and `rows_against` first; a value that only one side has is left out,
    as it shows in the `unknown` share of the slice column or as a loss of rows. The rows of few-row slices drift by
    chance: read `psi` with `rows` beside it.

    Raises KeyError if a column is not there.
    """
    _require(rows, [*slices, *(features or [])])
    _require(against_rows, slices)
    tables = []
    for name in slices:
        now = summarise_by(rows, reference, window=_slice_values(rows[name]))
        before = summarise_by(against_rows, reference, window=_slice_values(against_rows[name]))
        both = [value for value in now if value in before]
        if both:
            pairs = [now[value] for value in both], [before[value] for value in both]
            table = _drift_of_pairs(both, *pairs, "value")
            table.insert(0, "rows_against", np.repeat([one.rows for one in pairs[1]], len(reference.features)))
            tables.append(pd.concat({name: table}, names=["slice"]))
    result = pd.concat(tables)
    return result if features is None else result[result.index.get_level_values("feature").isin(features)]


def _slice_values(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "missing").astype(str)


def _drift_of_pairs(
    keys: list, current: Sequence[Summary], against: Sequence[Summary | None], level: str
) -> pd.DataFrame:
    if not keys:
        raise ValueError("expected at least one summary, got none")
    bins = current[0].reference
    compared = [bins.summary if one is None else one for one in against]
    for one in [*current, *compared]:
        _same_bins(current[0], one)
    tables = []
    for start in range(0, len(keys), CHUNK):
        part = slice(start, start + CHUNK)
        tables += _measures(current[part], compared if len(compared) == 1 else compared[part])
    index = pd.MultiIndex.from_product([keys, bins.features], names=[level, "feature"])
    table = pd.DataFrame({name: np.concatenate([each[name] for each in tables]) for name in tables[0]}, index=index)
    table.insert(0, "rows", np.repeat([one.rows for one in current], len(bins.features)))
    return table


def _measures(current: Sequence[Summary], against: Sequence[Summary]) -> list[dict[str, np.ndarray]]:
    """The columns of `drift` for each current summary, against its own or one for all; an entry for each feature."""
    layout, features = current[0].reference._layout, len(current[0].reference.features)
    q, p = (np.stack([one.counts for one in side]).astype(float) for side in (current, against))
    n, m = (np.array([[float(one.rows)] for one in side]) for side in (current, against))
    moments = [_moments(side, counts, layout) for side, counts in ((current, q), (against, p))]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            **_coarse_measures(q, p, n, m, layout),
            **_fine_measures(q, p, moments, current, layout),
            **_shares(q, p, n, m, current[0].reference),
            "mean": moments[0][0],
            "spread": moments[0][1],
        }
    full = {name: np.broadcast_to(values, (len(current), features)) for name, values in columns.items()}
    return [{name: values[i] for name, values in full.items()} for i in range(len(current))]


def _coarse_measures(q, p, n, m, layout: _Layout) -> dict[str, np.ndarray]:
    """PSI, Jensen-Shannon and chi-squared over the coarse bins; lines are windows, columns bins, then features."""
    from scipy.special import chdtrc, xlogy

    a, b = (np.add.reduceat(counts, layout.coarse, axis=1) for counts in (q, p))
    total = lambda values: np.add.reduceat(values, layout.coarse_starts, axis=1)  # noqa: E731
    used = (a > 0) | (b > 0)
    filled = np.maximum(a, EMPTY) / n, np.maximum(b, EMPTY) / m
    psi = np.where(used, (filled[0] - filled[1]) * np.log(filled[0] / filled[1]), 0.0)
    a_share, b_share = a / n, b / m
    middle = (a_share + b_share) / 2
    apart = xlogy(a_share, a_share) + xlogy(b_share, b_share) - 2 * xlogy(middle, middle)
    expected = (a + b) * n / (n + m)
    chi2 = total(np.where(used, (a - expected) ** 2 / (expected * m / (n + m)), 0.0))
    degrees = total(used.astype(float)) - 1
    psi, js = total(psi), np.sqrt(np.maximum(total(apart), 0) / 2)
    some = (n > 0) & (m > 0)
    chi2, degrees = np.where(some, chi2, np.nan), np.where(some, degrees, np.nan)
    probability = np.where(degrees > 0, chdtrc(np.maximum(degrees, 1), chi2), np.where(some, 1.0, np.nan))
    return {
        "psi": np.where(some, psi, np.nan),
        "js": np.where(some, js, np.nan),
        "chi2": chi2,
        "chi2_df": degrees,
        "chi2_p": probability,
    }


def _fine_measures(q, p, moments, current: Sequence[Summary], layout: _Layout) -> dict[str, np.ndarray]:
    """Kolmogorov-Smirnov and Wasserstein over the fine bins, of the values that are there."""
    numeric = len(current[0].reference.edges)
    stop = int(layout.sizes[:numeric].sum())
    starts, sizes, width = layout.starts[:numeric], layout.sizes[:numeric], layout.width[:stop]
    features = len(layout.sizes)
    if numeric == 0:
        nothing = np.full((len(q), features), np.nan)
        return {"ks": nothing, "wasserstein": nothing, "wasserstein_scaled": nothing}
    gap = _cumulated(q[:, :stop], starts, sizes) - _cumulated(p[:, :stop], starts, sizes)
    ks = np.maximum.reduceat(np.abs(gap), starts, axis=1)
    left = np.empty_like(gap)
    left[:, 1:], left[:, 0] = gap[:, :-1], 0.0
    same_sign = left * gap >= 0
    area = np.abs(left) + np.abs(gap)
    crossing = np.where(same_sign, area, (left**2 + gap**2) / np.where(same_sign, 1.0, area)) / 2 * width
    inner = np.add.reduceat(crossing, starts, axis=1)
    beyond = np.abs(moments[0][2] - moments[1][2]).sum(axis=2)
    wasserstein = inner + beyond
    pad = lambda values: np.pad(values, ((0, 0), (0, features - numeric)), constant_values=np.nan)  # noqa: E731
    spread = moments[1][1][:, :numeric]
    return {
        "ks": pad(ks),
        "wasserstein": pad(wasserstein),
        "wasserstein_scaled": pad(np.where(spread > 0, wasserstein / spread, np.nan)),
    }


def _cumulated(counts: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Share of a feature's values up to and including each bin; NaN where it has none."""
    summed = np.cumsum(counts, axis=1)
    ends = starts + sizes - 1
    there = summed[:, ends] - summed[:, starts]
    return (summed - np.repeat(summed[:, starts], sizes, axis=1)) / np.repeat(there, sizes, axis=1)


def _moments(side: Sequence[Summary], counts: np.ndarray, layout: _Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation by feature, and the mean distance below and above the range; NaN of categories."""
    bins = side[0].reference
    numeric, features = len(bins.edges), len(layout.sizes)
    mean, spread = np.full((2, len(side), features), np.nan)
    if numeric == 0:
        return mean, spread, np.zeros((len(side), 0, 2))
    stop = int(layout.sizes[:numeric].sum())
    starts, sizes = layout.starts[:numeric], layout.sizes[:numeric]
    below, above = starts + 1, starts + sizes - 1
    counts = counts[:, :stop].copy()
    counts[:, starts] = 0  # missing
    zero = layout.centre[below]
    place = layout.centre[:stop] - np.repeat(zero, sizes)
    far = np.stack([one.excess for one in side]) * layout.unit[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        there = np.add.reduceat(counts, starts, axis=1)
        total = np.add.reduceat(counts * place, starts, axis=1) + far[:, :, 1] - far[:, :, 0]
        tails = np.stack([counts[:, below], counts[:, above]], axis=2)
        each = np.where(tails > 0, far / tails, 0.0)
        tail_place = np.stack([0 - each[:, :, 0], place[above] + each[:, :, 1]], axis=2)
        counts[:, below] = counts[:, above] = 0
        middle = total / there
        square = np.add.reduceat(counts * (place - np.repeat(middle, sizes, axis=1)) ** 2, starts, axis=1)
        square += (tails * (tail_place - middle[:, :, None]) ** 2).sum(axis=2)
        mean[:, :numeric], spread[:, :numeric] = zero + middle, np.sqrt(square / there)
        return mean, spread, far / there[:, :, None]


def _shares(q, p, n, m, bins: Reference) -> dict[str, np.ndarray]:
    """Shares of missing, unknown and out-of-range rows and their rise, and of the fullest bin."""
    layout, numeric = bins._layout, np.arange(len(bins.features)) < len(bins.edges)
    missing = q[:, layout.starts] / n, p[:, layout.starts] / m
    outside = tuple(
        np.add.reduceat(counts * layout.outside, layout.starts, axis=1) / rows for counts, rows in ((q, n), (p, m))
    )
    unknown, beyond = (tuple(np.where(kind, side, np.nan) for side in outside) for kind in (~numeric, numeric))
    values = q.copy()
    values[:, layout.starts] = 0
    fullest = np.maximum.reduceat(values, layout.starts, axis=1) / np.add.reduceat(values, layout.starts, axis=1)
    shares = {"missing": missing, "unknown": unknown, "out_of_range": beyond}
    rises = {f"{name}_rise": now - before for name, (now, before) in shares.items()}
    return {**{name: now for name, (now, _) in shares.items()}, **rises, "largest_bin": fullest}
