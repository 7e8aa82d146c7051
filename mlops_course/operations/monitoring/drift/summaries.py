"""Windows of rows, and summaries of them over fixed bins: small, and the sum of those of their parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pandas as pd

MONDAY = pd.Timestamp("1970-01-05")  # windows of whole weeks then start on Mondays, and windows of days at midnight
BINS = 500  # fine bins of a numeric feature: a KS statistic is then wrong by a five-hundredth at most
COARSE_BINS = 10  # for PSI, JS and chi-squared: the deciles of the reference, as is usual for PSI
MAX_CATEGORIES = 10_000  # more are not categories but identifiers, which are new in every window
STEPS = 2**20  # in the reference's range: a distance beyond the range is kept in whole steps
MAX_STEPS = 2**36  # 65,536 ranges away counts as far as infinity; 2^27 such rows still fit 64 bits


def windows(times: pd.Series, *, width: pd.Timedelta) -> pd.Series:
    """Return the start of each row's window: each row is in exactly one, the oldest and the newest included.

    Windows are counted from a Monday at midnight, in UTC or naive as `times` are, so a row's window does not depend on
    what other rows there are. All are equally long: where clocks change, a window of a day is not a calendar day.

    Raises TypeError if `times` are not times, ValueError if one is missing or `width` is not positive.
    """
    if not pd.api.types.is_datetime64_any_dtype(times):
        raise TypeError(f"expected times as datetime64, got {times.dtype}; convert them with pandas.to_datetime")
    if times.isna().any():
        raise ValueError(f"{int(times.isna().sum())} rows have no time, so no window; leave them out knowingly")
    if not width > pd.Timedelta(0):
        raise ValueError(f"expected a positive width of windows, got {width}")
    start = MONDAY if times.dt.tz is None else MONDAY.tz_localize("UTC")
    return (times - start) // width * width + start


@dataclass(frozen=True, eq=False)
class Reference:
    """The bins that all summaries share, and the counts of the sample they were made from.

    `edges` are ascending values of each numeric feature, `cuts` those among them that end a coarse bin, `categories`
    the values of each categorical feature. `counts` holds the bins of all features one after another. Of a numeric
    feature they are: missing, below the first edge, the first edge itself, between the first and second, the second
    edge itself, and so on, above the last. Of a categorical feature: missing, unknown, and each category.
    """

    edges: Mapping[str, np.ndarray]
    cuts: Mapping[str, np.ndarray]
    categories: Mapping[str, pd.Index]
    counts: np.ndarray = field(repr=False)
    excess: np.ndarray = field(repr=False)

    @property
    def features(self) -> list[str]:
        """Names of all features, numeric ones first."""
        return [*self.edges, *self.categories]

    @property
    def summary(self) -> "Summary":
        """The sample's own summary."""
        rows = int(self.counts[self._places[self.features[0]]].sum())
        return Summary(self, rows, self.counts, self.excess)

    @cached_property
    def version(self) -> str:
        """A hash of the bins: summaries of the same version may be added, wherever they were made."""
        parts = [{name: list(values) for name, values in part.items()} for part in (self.edges, self.cuts)]
        texts = {name: values.tolist() for name, values in self.categories.items()}
        return blake2b(repr([*parts, texts]).encode(), digest_size=16).hexdigest()

    @cached_property
    def _places(self) -> dict[str, slice]:
        """Where the bins of each feature lie in `counts`."""
        sizes = [2 * len(edges) + 2 for edges in self.edges.values()]
        ends = np.cumsum([*sizes, *(len(values) + 2 for values in self.categories.values())]).tolist()
        return {name: slice(*place) for name, place in zip(self.features, pairwise([0, *ends]), strict=True)}


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of some rows over a reference's bins; a + b is the summary of both together, exactly.

    `counts` are those of `Reference`. `excess` has a line for each numeric feature: the total distance of its values
    below and above the reference's range, in whole steps.
    """

    reference: Reference
    rows: int
    counts: np.ndarray = field(repr=False)
    excess: np.ndarray = field(repr=False)

    def __add__(self, other: "Summary") -> "Summary":
        if not isinstance(other, Summary):
            return NotImplemented
        _require_same_bins(self, other)
        return Summary(self.reference, self.rows + other.rows, self.counts + other.counts, self.excess + other.excess)

    def __radd__(self, other: object) -> "Summary":
        """Add to the 0 from which `sum` starts."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Whether both have the same counts over the same bins."""
        if not isinstance(other, Summary):
            return NotImplemented
        return (
            self.reference.version == other.reference.version
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.excess, other.excess)
        )


def reference(rows: pd.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str]) -> Reference:
    """Make bins from a sample, and count the sample over them: everything else is measured against them.

    A numeric feature with at most `BINS` distinct values has a bin for each of them, and one between each two. One with
    more has its edges at as many quantiles, and at even steps through its range, as quantiles are far apart in a long
    tail. A datetime column among `numeric` counts as its hour of the day, 0 to 23.

    Raises KeyError if a column is not there, TypeError if a numeric one holds no numbers, and ValueError if there are
    no rows, a feature is named twice or a categorical one has over 10,000 categories.
    """
    names = [*numeric, *categorical]
    if len(rows) == 0 or not names or len(set(names)) < len(names):
        raise ValueError(f"expected rows, and features named once each; got {len(rows)} rows and the features {names}")
    _require(rows, names)
    found = {name: _edges(_numbers(rows[name])) for name in numeric}
    made = Reference(
        edges={name: edges for name, (edges, _) in found.items()},
        cuts={name: cuts for name, (_, cuts) in found.items()},
        categories={name: _categories(rows[name]) for name in categorical},
        counts=np.empty(0, np.int64),
        excess=np.empty((0, 2), np.int64),
    )
    own = summarise(rows, made)
    return replace(made, counts=own.counts, excess=own.excess)


def summarise(rows: pd.DataFrame, reference: Reference) -> Summary:
    """Summarise all rows together; no rows give a summary of zeros.

    Raises KeyError if a column of the reference is not there, TypeError if a numeric one holds no numbers.
    """
    (summary,) = _summaries(rows, reference, np.zeros(len(rows), dtype=np.intp), 1)
    return summary


def summarise_by(rows: pd.DataFrame, reference: Reference, *, window: pd.Series) -> dict[object, Summary]:
    """Summarise each window, in ascending order; `window` names that of each row, on the index of `rows`.

    Raises ValueError if `window` is on another index or is missing for a row, and as `summarise` does.
    """
    if not window.index.equals(rows.index):
        raise ValueError("expected window and rows on the same index; compute the windows from a column of the rows")
    codes, starts = pd.factorize(window, sort=True)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum())} rows are in no window; give each row one, or leave it out")
    return dict(zip(starts, _summaries(rows, reference, codes, len(starts)), strict=True))


def trailing(summaries: Mapping[pd.Timestamp, Summary], start: pd.Timestamp, *, width: pd.Timedelta) -> Summary:
    """Add up the windows that start in [start - width, start): a reference that follows the season.

    Raises ValueError if no window starts then.
    """
    chosen = [summary for at, summary in summaries.items() if start - width <= at < start]
    if not chosen:
        raise ValueError(f"no window starts in the {width} before {start}; wait for more, or take another reference")
    return sum(chosen)


def _summaries(rows: pd.DataFrame, bins: Reference, group: np.ndarray, groups: int) -> Iterator[Summary]:
    _require(rows, bins.features)
    counts, excess = [], np.zeros((groups, len(bins.edges), 2), dtype=np.int64)
    for name, place in bins._places.items():
        if name in bins.edges:
            values, edges = _numbers(rows[name]), bins.edges[name]
            codes = _numeric_codes(values, edges)
            _add_excess(excess[:, len(counts)], group, values, edges)
        else:
            codes = _category_codes(rows[name], bins.categories[name])
        size = place.stop - place.start
        counts.append(np.bincount(group * size + codes, minlength=groups * size).reshape(groups, size))
    sizes, counts = np.bincount(group, minlength=groups), np.hstack(counts)
    return (Summary(bins, int(sizes[i]), counts[i], excess[i]) for i in range(groups))


def _require_same_bins(one: Summary, other: Summary) -> None:
    if one.reference is not other.reference and one.reference.version != other.reference.version:
        raise ValueError("expected summaries over the same bins; summarise both with the same reference")


# Bins: where their edges lie, and in which bin each value falls


def _edges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the fine bins of a sample and, among them, the upper ends of its coarse bins but the last."""
    values = np.sort(values[np.isfinite(values)])
    distinct = np.unique(values)
    if len(distinct) <= COARSE_BINS:
        return distinct, distinct[:-1]
    deciles = _quantiles(values, COARSE_BINS)
    cuts = deciles[deciles < values[-1]]
    if len(distinct) <= BINS:
        return distinct, cuts
    even = np.searchsorted(values, np.linspace(values[0], values[-1], BINS // 2 + 1)[1:-1])
    neighbours = values[np.concatenate([[0, -1], even - 1, even])]  # values on either side of each even step
    return np.unique(np.concatenate([neighbours, _quantiles(values, BINS), cuts])), cuts


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
