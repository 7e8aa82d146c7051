"""Summaries of rows over fixed bins: small, and the sum of those of their parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pandas as pd

from .bins import COARSE_BINS, _add_excess, _categories, _category_codes, _edges, _numbers, _numeric_codes, _require

BINS = 500  # fine bins of a numeric feature: a KS statistic is then wrong by a five-hundredth at most


@dataclass(frozen=True, eq=False)
class Reference:
    """The bins that all summaries share, and the counts of the sample they were made from.

    `edges` are values of the sample by numeric feature, ascending; `cuts` are those among them that end a coarse bin;
    `categories` are values by categorical feature.

    `counts` holds the bins of all features one after another. Those of a numeric feature with k edges are: missing,
    below the first edge, the first edge itself, between the first and second, the second edge itself, and so on, above
    the last. Those of a categorical feature are: missing, unknown, and each category. Every value is in one bin.
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

    `counts` has an entry for each bin of each feature, `excess` a line for each numeric feature: the total distance of
    its values below and above the reference's range, in whole steps. `sum` of a list works.
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
        """Add to 0, from which `sum` starts."""
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


def reference(rows: pd.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str], bins: int = BINS) -> Reference:
    """Make bins from a sample, and count the sample over them: everything else is measured against them.

    A numeric feature with at most `bins` distinct values has each of them as a bin, and a bin between each two: then
    everything measured against this sample is exact, but for where between two known values a new value lies. One with
    more has as edges the values at the sample's quantiles j / bins, and those on either side of bins / 2 even steps
    through its range, as quantiles are far apart in a long tail. A datetime column among `numeric` counts as its
    hour of the day, 0 to 23.

    Raises KeyError if a column is not there, TypeError if a numeric one holds no numbers, and ValueError if there are
    no rows, a feature is named twice, `bins` is under 10 or a categorical one has over 10,000 categories.
    """
    names = [*numeric, *categorical]
    if len(rows) == 0 or not names or len(set(names)) < len(names):
        raise ValueError(f"expected rows, and features named once each; got {len(rows)} rows and the features {names}")
    if bins < COARSE_BINS:
        raise ValueError(f"expected at least {COARSE_BINS} bins, got {bins}; PSI needs the deciles")
    _require(rows, names)
    found = {name: _edges(_numbers(rows[name]), bins) for name in numeric}
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
    """Summarise each window, by its start in ascending order, in one pass over the rows.

    `window` gives the window of each row, from `windows` or any other grouping, on the index of `rows`.

    Raises ValueError if `window` is not on the index of the rows or is missing for one, and as `summarise` does.
    """
    if not window.index.equals(rows.index):
        raise ValueError("expected window and rows on the same index; compute the windows from a column of the rows")
    codes, starts = pd.factorize(window, sort=True)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum())} rows are in no window; give each row one, or leave it out")
    return dict(zip(starts, _summaries(rows, reference, codes, len(starts)), strict=True))


def trailing(summaries: Mapping[pd.Timestamp, Summary], start: pd.Timestamp, *, width: pd.Timedelta) -> Summary:
    """Add up the windows that start in [start - width, start): a reference that follows the season.

    With a width of whole weeks, weekdays are in it in equal parts. A slow change is part of it and never shows.

    Raises ValueError if no window starts then.
    """
    chosen = [summary for at, summary in summaries.items() if start - width <= at < start]
    if not chosen:
        raise ValueError(f"no window starts in the {width} before {start}; wait for more, or take another reference")
    return sum(chosen[1:], start=chosen[0])


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
