"""Summaries of rows over fixed bins: small, and the sum of those of their parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pandas as pd

BINS = 500  # fine bins of a numeric feature: a KS statistic is then wrong by a five-hundredth at most
COARSE = 10  # bins of PSI, JS and chi-squared: the deciles of the reference, as is usual for PSI
MAX_CATEGORIES = 10_000  # more are not categories but identifiers, which are new in every window
STEPS = 2**20  # how finely, in parts of the reference's range, a distance beyond that range is kept
FURTHEST = 2**36  # the same unit: 65,536 ranges away is as far as infinity, and 2^27 such rows still fit 64 bits
CELLS, FEW, CROWD = 2**14, 16, 4  # of the table of edges: cells, edges that need none, most edges in a cell
CHUNK = 16  # windows measured at once, which bounds memory
_NONE = np.empty(0, dtype=np.uint64)  # hashes of no rows


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
