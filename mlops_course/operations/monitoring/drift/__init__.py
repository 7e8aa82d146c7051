"""Drift: how the rows of a window differ from a reference, from counts that add up.

    windows            the window of each row: each row in exactly one, the newest included
    reference          fine bins made once, from a chosen sample, such as the rows a model was trained on
    summarise          a window's counts over those bins; summaries add up, so a year is the sum of its days
    summarise_by       the summaries of all windows in one pass
    drift, drift_by    every measure for every feature, against the reference or against another summary
    trailing           the sum of the windows just before one: the other reference to choose
    drift_by_slice     the same for each supplier or region, each against itself
    domain_classifier  a shift that no single feature shows: can a model tell the two samples apart?

The bins always come from the reference. Bins made anew from each window move with the drift and hide it. And the choice
of reference is the choice of question. Against the training sample, drift says how far the model is from what it has
learnt, and a season that it has not seen is drift. Against the weeks before, the season is quiet, what changed at once
stands out, and a slow change is never seen.

>>> rng = np.random.default_rng(7)
>>> trained = pd.DataFrame({"size": rng.normal(size=5_000), "colour": rng.choice(["red", "blue"], 5_000)})
>>> days = pd.Series(pd.date_range("2024-01-01", periods=2, freq="D").repeat(1_000))
>>> rows = trained.sample(2_000, random_state=7, ignore_index=True)
>>> rows.loc[days.dt.day == 2, "size"] += 1.0
>>> bins = reference(trained, numeric=["size"], categorical=["colour"])
>>> daily = summarise_by(rows, bins, window=windows(days, width=pd.Timedelta("1D")))
>>> [round(float(drift(day).loc["size", "psi"]), 1) for day in daily.values()]
[0.0, 1.1]
>>> sum(daily.values()) == summarise(rows, bins)
True
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pandas as pd

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

BINS = 500  # fine bins of a numeric feature: a KS statistic is then wrong by a five-hundredth at most
COARSE = 10  # bins of PSI, JS and chi-squared: the deciles of the reference, as is usual for PSI
EMPTY = 0.5  # rows that an empty bin counts for, so that no share is 0 and no logarithm infinite
MAX_CATEGORIES = 10_000  # more are not categories but identifiers, which are new in every window
STEPS = 2**20  # how finely, in parts of the reference's range, a distance beyond that range is kept
FURTHEST = 2**36  # the same unit: 65,536 ranges away is as far as infinity, and 2^27 such rows still fit 64 bits
CELLS, FEW, CROWD = 2**14, 16, 4  # of the table of edges: cells, edges that need none, most edges in a cell
CHUNK = 16  # windows measured at once, which bounds memory
MONDAY = pd.Timestamp("1970-01-05")  # windows of whole weeks then start on Mondays, and windows of days at midnight
FOLDS, TREES = 5, 60  # of the domain classifier
_NONE = np.empty(0, dtype=np.uint64)  # hashes of no rows
DRAWS = 500  # bootstrap draws of the domain classifier
LEVEL = 0.95
WIDER = (1 + FOLDS / (FOLDS - 1)) ** 0.5  # models of different folds share rows (Nadeau and Bengio 2003): 1.5 for five


# Windows --------------------------------------------------------------------------------------------------------------


def windows(times: pd.Series, *, width: pd.Timedelta, origin: pd.Timestamp | None = None) -> pd.Series:
    """The start of the window that each row is in; window k is [origin + k × width, origin + (k + 1) × width).

    So every row is in exactly one window, the oldest and the newest included, and which one does not depend on what
    other rows there are. `origin` is a Monday at midnight unless given, in UTC or naive as `times` are. Windows are
    equally long: where clocks change, a window of a day is not a calendar day. Returns a Series like `times`.

    Raises TypeError if `times` are not times, ValueError if one is missing or `width` is not positive.
    """
    if not pd.api.types.is_datetime64_any_dtype(times):
        raise TypeError(f"expected times as datetime64, got {times.dtype}; convert them with pandas.to_datetime")
    if times.isna().any():
        raise ValueError(f"{int(times.isna().sum())} rows have no time, so no window; leave them out knowingly")
    if not (width := pd.Timedelta(width)) > pd.Timedelta(0):
        raise ValueError(f"expected a positive width of windows, got {width}")
    aware = times.dt.tz is not None
    start = (MONDAY.tz_localize("UTC") if aware else MONDAY) if origin is None else pd.Timestamp(origin)
    if aware != (start.tzinfo is not None):
        raise TypeError(f"times and origin must both have a time zone or neither; got {times.dtype} and {start}")
    return ((times - start) // width) * width + start


# The reference --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reference:
    """The bins that all summaries share, and the counts of the sample they were made from.

    `edges` are values of the sample by numeric feature, ascending; `cuts` are those among them that end a coarse bin;
    `categories` are values by categorical feature; `identity` are the columns that make two rows the same row.

    All bins of all features lie one after another in a single array. Those of a numeric feature with k edges are
    missing, below the first edge, the first edge itself, between the first and second, the second edge itself, and so
    on, above the last. Those of a categorical feature are missing, unknown, and each category. Every value is in one.
    """

    edges: Mapping[str, np.ndarray]
    cuts: Mapping[str, np.ndarray]
    categories: Mapping[str, pd.Index]
    identity: tuple[str, ...]
    counts: np.ndarray = field(repr=False)
    excess: np.ndarray = field(repr=False)
    hashes: np.ndarray = field(repr=False)

    @property
    def features(self) -> list[str]:
        """Names of all features, numeric ones first."""
        return [*self.edges, *self.categories]

    @property
    def summary(self) -> "Summary":
        """The sample's own summary."""
        return Summary(reference=self, rows=self._rows, counts=self.counts, excess=self.excess, parts=(self.hashes,))

    @property
    def _rows(self) -> int:
        return int(self.counts[: self._layout.sizes[0]].sum())

    @cached_property
    def version(self) -> str:
        """A hash of the bins: summaries of the same version may be added, wherever they were made."""
        digest = blake2b(repr((self.features, self.identity)).encode(), digest_size=16)
        for values in [*self.edges.values(), *self.cuts.values()]:
            digest.update(np.int64(len(values)).tobytes() + values.tobytes())
        for values in self.categories.values():
            digest.update(repr(values.tolist()).encode())
        return digest.hexdigest()

    @cached_property
    def _layout(self) -> "_Layout":
        return _layout(self)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where each feature's bins lie in the array of counts, and what they stand for; one entry a bin unless said."""

    sizes: np.ndarray  # bins of each feature
    starts: np.ndarray  # where each feature begins: its bin of missing values
    coarse: np.ndarray  # where each coarse bin begins
    coarse_starts: np.ndarray  # where each feature begins among the coarse bins
    outside: np.ndarray  # whether a bin lies beyond the reference's values: out of range, or an unknown category
    centre: np.ndarray  # value, or middle of the gap between two values; NaN or 0 where there is none
    width: np.ndarray  # of the gap between two values; else 0
    unit: np.ndarray  # of each numeric feature's excess


def reference(
    rows: pd.DataFrame,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    bins: int = BINS,
    identity: Sequence[str] | None = None,
) -> Reference:
    """Bins made from a sample, with the sample's own summary: the yardstick of all that follows.

    A numeric feature with at most `bins` distinct values has each of them as a bin, and a bin between each two: then
    everything measured against this sample is exact, but for where between two known values a new value lies. One with
    more has as edges the values at the sample's quantiles j / bins, and those on either side of bins / 2 even steps
    through its range, as quantiles are far apart in a long tail. A datetime column among `numeric` counts as its
    hour of the day, 0 to 23. `identity` names the columns that must all be equal for rows to be repeats of each
    other: by default all features, and none if empty, which is faster.

    Raises KeyError if a column is not there, TypeError if a numeric one holds no numbers, and ValueError if there are
    no rows, a feature is named twice, `bins` is under 10 or a categorical one has over 10,000 categories.
    """
    names = [*numeric, *categorical]
    if len(rows) == 0 or not names or len(set(names)) < len(names):
        raise ValueError(f"expected rows, and features named once each; got {len(rows)} rows and the features {names}")
    if bins < COARSE:
        raise ValueError(f"expected at least {COARSE} bins, got {bins}; PSI needs the deciles")
    identity = tuple(names if identity is None else identity)
    _require(rows, [*names, *identity])
    edges, cuts = {}, {}
    for name in numeric:
        values = _numbers(rows[name])
        edges[name], cuts[name] = _edges(np.sort(values[np.isfinite(values)]), bins)
    categories = {name: _categories(rows[name]) for name in categorical}
    made = Reference(edges, cuts, categories, identity, np.empty(0, np.int64), np.empty((0, 2), np.int64), _NONE)
    own = summarise(rows, made)
    return Reference(edges, cuts, categories, identity, own.counts, own.excess, own.parts[0])


def _edges(ordered: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Fine edges and, among them, the ends of the coarse bins, of finite values in ascending order."""
    distinct = _once(ordered)
    if len(distinct) <= COARSE:
        return distinct, distinct[:-1]
    deciles = _quantiles(ordered, COARSE)
    cuts = deciles[deciles < ordered[-1]]  # values above the greatest belong with it
    if len(distinct) <= bins:
        return distinct, cuts
    even = np.searchsorted(ordered, np.linspace(ordered[0], ordered[-1], bins // 2 + 1)[1:-1])
    known = np.concatenate([[0, -1], even - 1, even])  # the values on either side: nothing lies between them
    return np.unique(np.concatenate([ordered[known], _quantiles(ordered, bins), cuts])), cuts


def _once(ordered: np.ndarray) -> np.ndarray:
    """Each value of an ascending array once."""
    return ordered[np.diff(ordered, prepend=np.nan) != 0]


def _quantiles(ordered: np.ndarray, parts: int) -> np.ndarray:
    """Values of the sample at the quantiles 1 / parts, 2 / parts and so on, each once."""
    return _once(ordered[-(-len(ordered) * np.arange(1, parts) // parts) - 1])


def _categories(values: pd.Series) -> pd.Index:
    found = pd.Index(values.dropna().unique(), dtype=object)
    if len(found) > MAX_CATEGORIES:
        raise ValueError(f"{values.name} has {len(found):,} categories; expected at most {MAX_CATEGORIES:,}: leave out")
    return found[np.argsort([str(value) for value in found], kind="stable")]


def _layout(bins: Reference) -> _Layout:
    parts = {name: [] for name in ("coarse", "outside", "centre", "width")}
    for name, edges in bins.edges.items():
        size = 2 * len(edges) + 2
        outside, centre, width = np.zeros(size, bool), np.zeros(size), np.zeros(size)
        outside[[1, -1]] = True
        if len(edges):
            centre[2:-1:2], centre[1], centre[-1] = edges, edges[0], edges[-1]
            centre[3:-1:2], width[3:-1:2] = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
        else:
            centre[:] = np.nan  # no value to measure from, so no mean
        ends = 3 + 2 * np.searchsorted(edges, bins.cuts[name])  # a coarse bin ends with its edge itself
        coarse = np.isin(np.arange(size), [0, 1, *ends])
        for key, value in zip(parts, (coarse, outside, centre, width), strict=True):
            parts[key].append(value)
    for categories in bins.categories.values():
        size = len(categories) + 2
        for key, value in zip(parts, (np.ones(size, bool), np.arange(size) == 1, *np.zeros((2, size))), strict=True):
            parts[key].append(value)
    sizes = np.array([len(part) for part in parts["outside"]])
    starts = np.cumsum(sizes) - sizes
    coarse = np.flatnonzero(np.concatenate(parts["coarse"]))
    flat = {key: np.concatenate(parts[key]) for key in ("outside", "centre", "width")}
    unit = np.array([_unit(edges) for edges in bins.edges.values()])
    return _Layout(sizes, starts, coarse, np.searchsorted(coarse, starts), unit=unit, **flat)


def _unit(edges: np.ndarray) -> float:
    """The step in which distances beyond the range are counted."""
    if len(edges) == 0:
        return 1 / STEPS
    return float(np.ptp(edges) or abs(edges[0]) or 1.0) / STEPS


# Summaries ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of some rows over a reference's bins; a + b is the summary of both together, exactly.

    `counts` has an entry for each bin of each feature, `excess` a line for each numeric feature: how far its values lie
    below and above the reference's range in all, in whole steps, so that sums are exact in any order. `parts` are
    hashes of the rows' content. `sum` of a list works.
    """

    reference: Reference
    rows: int
    counts: np.ndarray = field(repr=False)
    excess: np.ndarray = field(repr=False)
    parts: tuple[np.ndarray, ...] = field(repr=False)

    @property
    def repeated(self) -> int:
        """Rows that are equal to an earlier one in all columns of the reference's `identity`, over all merged parts.

        Raises ValueError if the reference was made without identity.
        """
        if not self.reference.identity:
            raise ValueError("repeated rows were not looked for; make the reference with identity=None or columns")
        return self.rows - len(np.unique(np.concatenate(self.parts)))

    def __add__(self, other: "Summary") -> "Summary":
        if not isinstance(other, Summary):
            return NotImplemented
        _same_bins(self, other)
        return Summary(
            self.reference,
            self.rows + other.rows,
            self.counts + other.counts,
            self.excess + other.excess,
            parts if len(parts := self.parts + other.parts) < CHUNK else (np.concatenate(parts),),
        )

    def __radd__(self, other: object) -> "Summary":
        """So that `sum` works, which starts from 0."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Whether both are summaries of equal rows over equal bins, in whatever order and parts."""
        if not isinstance(other, Summary):
            return NotImplemented
        mine, theirs = (np.sort(np.concatenate(each.parts)) for each in (self, other))
        return (
            self.reference.version == other.reference.version
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.excess, other.excess)
            and np.array_equal(mine, theirs)
        )

    __hash__ = None


def summarise(rows: pd.DataFrame, reference: Reference) -> Summary:
    """The summary of all rows together; no rows give a summary of zeros.

    Raises KeyError if a column of the reference is not there, TypeError if a numeric one holds no numbers.
    """
    (summary,) = _summaries(rows, reference, np.zeros(len(rows), dtype=np.intp), 1)
    return summary


def summarise_by(rows: pd.DataFrame, reference: Reference, *, window: pd.Series) -> dict[object, Summary]:
    """The summary of each window, by its start in ascending order, in one pass over the rows.

    `window` gives the window of each row, from `windows` or any other grouping, on the index of `rows`.

    Raises ValueError if `window` is not on the index of the rows or is missing for one, and as `summarise` does.
    """
    if not window.index.equals(rows.index):
        raise ValueError("expected window and rows on the same index; compute the windows from a column of the rows")
    codes, starts = pd.factorize(window, sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"{int((codes < 0).sum())} rows are in no window; give each row one, or leave it out knowingly"
        )
    return dict(zip(starts, _summaries(rows, reference, codes, len(starts)), strict=True))


def trailing(summaries: Mapping[pd.Timestamp, Summary], start: pd.Timestamp, *, width: pd.Timedelta) -> Summary:
    """The sum of the windows that start in [start - width, start): a reference that goes with the season.

    With a width of whole weeks, weekdays are in it in equal parts. What drifts slowly is part of it and never shows.

    Raises ValueError if no window starts then.
    """
    chosen = [summary for at, summary in summaries.items() if start - width <= at < start]
    if not chosen:
        raise ValueError(f"no window starts in the {width} before {start}; wait for more, or take another reference")
    return sum(chosen[1:], start=chosen[0])


def _summaries(rows: pd.DataFrame, bins: Reference, group: np.ndarray, groups: int) -> Iterator[Summary]:
    _require(rows, [*bins.features, *bins.identity])
    layout = bins._layout
    counts = np.empty((groups, int(layout.sizes.sum())), dtype=np.int64)
    excess = np.zeros((groups, len(bins.edges), 2), dtype=np.int64)
    for i, name in enumerate(bins.features):
        start, size = layout.starts[i], layout.sizes[i]
        if name in bins.edges:
            values = _numbers(rows[name])
            codes = _numeric_codes(values, bins.edges[name])
            _add_excess(excess[:, i], group, values, codes, bins.edges[name], layout.unit[i])
        else:
            codes = _category_codes(rows[name], bins.categories[name])
        found = np.bincount(group * size + codes, minlength=groups * size)
        counts[:, start : start + size] = found.reshape(groups, size)
    sizes = np.bincount(group, minlength=groups)
    hashes = _hashes(rows, bins.identity)[np.argsort(group, kind="stable")] if bins.identity else _NONE
    parts = np.split(hashes, np.cumsum(sizes)[:-1]) if bins.identity else [_NONE] * groups
    return (Summary(bins, int(sizes[i]), counts[i], excess[i], (parts[i],)) for i in range(groups))


def _numeric_codes(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value: 0 if missing, else 1 + 2 × the edges below it, and one more if it is an edge itself."""
    if len(edges) == 0:
        return np.where(np.isnan(values), 0, 1)
    ended = np.append(edges, np.inf)
    below = _edges_below(ended, values)
    codes = 2 * below + 1
    codes += ended[below] == values
    codes[values == np.inf] = 2 * len(edges) + 1
    codes[np.isnan(values)] = 0
    return codes


def _edges_below(ended: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many edges are less than each value; `ended` are the edges and infinity.

    Many values are looked up in a table of equal cells: all edges in lower cells are less, those in the value's own
    cell have to be compared. Where edges crowd in a cell, or are few, a binary search is as fast.
    """
    edges = ended[:-1]
    with np.errstate(over="ignore", divide="ignore"):
        scale = CELLS / (edges[-1] - edges[0])
    if len(values) < CELLS or len(edges) < FEW or not 0 < scale < np.inf:
        return np.searchsorted(edges, values)

    def cell(places: np.ndarray) -> np.ndarray:
        """Never falls as places rise, so a place in a lower cell is a lower place."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (places - edges[0]) * scale
        return np.fmin(np.fmax(scaled, 0.0), CELLS).astype(np.intp)  # NaN becomes 0

    crowd = np.bincount(cell(edges), minlength=CELLS + 1)
    if crowd.max() > CROWD:
        return np.searchsorted(edges, values)
    below = (np.cumsum(crowd) - crowd)[cell(values)]
    for _ in range(crowd.max()):
        below += ended[below] < values
    return below


def _add_excess(
    excess: np.ndarray, group: np.ndarray, values: np.ndarray, codes: np.ndarray, edges: np.ndarray, unit: float
) -> None:
    """Add to `excess` how far values lie beyond the range, rounded to whole units so that any order gives one sum."""
    if len(edges) == 0:
        return
    for side, beyond, edge in ((0, codes == 1, edges[0]), (1, codes == 2 * len(edges) + 1, edges[-1])):
        if beyond.any():
            with np.errstate(over="ignore", divide="ignore"):  # of a unit near zero every distance is far
                away = np.minimum(np.abs(values[beyond] - edge) / unit, FURTHEST)
            steps = np.rint(away).astype(np.int64)
            np.add.at(excess[:, side], group[beyond], steps)


def _category_codes(values: pd.Series, categories: pd.Index) -> np.ndarray:
    """The bin of each value: 0 if missing, 1 if unknown, else 2 + its place among the categories."""
    codes, found = pd.factorize(values)
    place = np.append(categories.get_indexer(pd.Index(found, dtype=object)) + 2, 0)  # unknown is -1 + 2, missing last
    return place[codes]


def _hashes(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """One number of 64 bits for each row's content in these columns, alike on every machine."""
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for name in columns:
        mixed ^= _column_hashes(rows[name])
        mixed *= np.uint64(0x9E3779B97F4A7C15)  # odd, so nothing is lost; columns that swap values do not cancel
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _column_hashes(values: pd.Series) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(values):
        plain = values.dt.tz_convert("UTC").dt.tz_localize(None) if values.dt.tz is not None else values
        return pd.util.hash_array(plain.to_numpy("datetime64[us]").view(np.int64))
    if pd.api.types.is_numeric_dtype(values):
        return pd.util.hash_array(_numbers(values) + 0.0)  # so that -0.0 is 0.0
    codes, found = pd.factorize(values)
    return np.append(pd.util.hash_array(np.array([str(value) for value in found], dtype=object)), np.uint64(0))[codes]


def _numbers(values: pd.Series) -> np.ndarray:
    """The values as floats, missing ones NaN; times of day as hours."""
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


def _same_bins(one: Summary, other: Summary) -> None:
    if one.reference is not other.reference and one.reference.version != other.reference.version:
        raise ValueError("expected summaries over the same bins; summarise both with the same reference")


# Drift ----------------------------------------------------------------------------------------------------------------


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


# Joint shift ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class JointShift:
    """How well a model tells two samples apart: `roc_auc` with the interval [low, high], and by which features.

    `importance` is what the AUC loses when a feature's values are shuffled, largest first; features that say the same
    share it, so read the first few together.
    """

    roc_auc: float
    low: float
    high: float
    importance: pd.Series
    rows: int

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above one half."""
        return self.low > 0.5


def domain_classifier(
    reference_rows: pd.DataFrame,
    current_rows: pd.DataFrame,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    seed: int,
    group: str | None = None,
    most_rows: int = 20_000,
) -> JointShift:
    """Whether gradient boosting can tell current rows from reference rows, by cross-validation: a shift of all at once.

    Half is chance, 1 is certainty. It sees what no measure of single features can, such as two features that no longer
    go together. `group` names a column such as the day: rows of one group are never in training and test at once, and
    the interval is from draws of whole groups. Without it, what rows of one hour share gives any two days away, and
    every AUC is near 1. The interval is made wider, as the models of the folds have learnt from the same rows; with
    equal samples it lies above a half about once in a hundred times. With few groups it is too narrow all the same, and
    an AUC far below a half says only that groups are few, and that those left out are like the other side. At most
    `most_rows` of each side are used, drawn by `seed`.

    Raises KeyError if a column is not there, ValueError if a side has fewer than five groups (or rows, without any).
    Source: Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    names = [*numeric, *categorical]
    sides = []
    for rows in (reference_rows, current_rows):
        _require(rows, [*names, *([group] if group else [])])
        sides.append(rows.iloc[np.sort(rng.permutation(len(rows))[:most_rows])])
    both = pd.concat(sides, ignore_index=True)
    side = np.repeat([0, 1], [len(rows) for rows in sides])
    groups = _group_codes(both[group] if group else pd.Series(np.arange(len(both))), side)
    probability, lost = _out_of_fold(_encoded(both, numeric, categorical), side, groups, len(numeric), rng)
    auc = float(roc_auc_score(side, probability))
    draws = _drawn_aucs(side, probability, groups, rng)
    low, high = auc + WIDER * (np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - auc)
    return JointShift(
        roc_auc=auc,
        low=max(float(low), 0.0),
        high=min(float(high), 1.0),
        importance=pd.Series(lost, index=pd.Index(names, name="feature"), name="importance").sort_values()[::-1],
        rows=len(both),
    )


def _out_of_fold(
    inputs: np.ndarray, side: np.ndarray, groups: np.ndarray, numeric: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each row a score by a model that has not learnt from its group, and what each feature is worth."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    few = [i for i in range(numeric, inputs.shape[1]) if np.nanmax(inputs[:, i], initial=0) < 255]  # else as numbers
    scores, lost = np.empty(len(side)), np.zeros(inputs.shape[1])
    state = int(rng.integers(2**31))
    for past, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=state).split(inputs, side, groups):
        model = HistGradientBoostingClassifier(
            categorical_features=few, max_iter=TREES, early_stopping=False, random_state=state
        )
        with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
            model.fit(inputs[past], side[past])
            scores[test] = _ranks(model.predict_proba(inputs[test])[:, 1])
            whole = roc_auc_score(side[test], scores[test])
            for i in range(inputs.shape[1]):
                shuffled = inputs[test]
                shuffled[:, i] = rng.permutation(shuffled[:, i])
                lost[i] += (whole - roc_auc_score(side[test], model.predict_proba(shuffled)[:, 1])) / FOLDS
    return scores, lost


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, so that the answers of models of different folds can be put together."""
    return pd.Series(values).rank(pct=True).to_numpy()


def _group_codes(groups: pd.Series, side: np.ndarray) -> np.ndarray:
    codes, _ = pd.factorize(groups)
    codes = np.where(codes < 0, codes.max(initial=0) + 1 + np.arange(len(codes)), codes)  # a group of its own
    for value, name in enumerate(("reference", "current")):
        if (found := len(np.unique(codes[side == value]))) < FOLDS:
            raise ValueError(f"the {name} rows are of {found} groups; expected {FOLDS} at least: take a longer window")
    return codes


def _encoded(rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> np.ndarray:
    codes = [pd.factorize(rows[name])[0].astype(float) for name in categorical]
    return np.column_stack([*(_numbers(rows[name]) for name in numeric), *(np.where(c < 0, np.nan, c) for c in codes)])


def _drawn_aucs(side: np.ndarray, probability: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AUC in each of DRAWS bootstrap samples of whole groups, drawn within each side."""
    order = np.argsort(probability, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(probability[order]) > 0])  # ties count as half
    weights = np.zeros((DRAWS, len(side)))
    for value in (0, 1):
        mine = side == value
        codes, found = pd.factorize(groups[mine])
        times = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=DRAWS)
        weights[:, mine] = times[:, codes]
    weights = weights[:, order]
    ones = np.add.reduceat(weights * side[order], first, axis=1)
    zeros = np.add.reduceat(weights * (1 - side[order]), first, axis=1)
    lower = np.cumsum(zeros, axis=1) - zeros / 2
    return (ones * lower).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))
