"""The work of one machine on the workers of a Dask cluster, with the result unchanged: to the bit.

    connect          a cluster, by its scheduler's address or started here for the purpose, checked before it is used
    score_to_file    predictions for a file or a batch, as `scoring.score_to_file` writes them
    drift            how far a file's rows have moved from what a version was made from, by summaries of its parts
    features         the prediction frame of many batches, as the pipeline builds it
    search           random search for settings, as `training.search` draws and scores them

A file is cut into the same parts whoever works on them. Workers read and write shared files themselves: tasks carry
names and numbers, and a worker loads a model, or the rows of a search, once. What travels back adds up exactly: counts,
never sums of floats. A task may be done twice without harm, so others can take over from a worker that died.

A worker must see the same files under the same names (input, folder of the output, workspace), and have the same
versions of Python, of this package and of the libraries that decide a result. Both are checked. What cannot be checked:
on processors of another kind, the last bit of a product of matrices may differ.

    with connect("local", workers=2) as client:
        score_to_file(system, "rows.parquet", target=Path("scores.parquet"), client=client)
"""

from .batches import Search, features, search
from .files import Drift, drift, score_to_file
from .workers import MissingExtraError, connect

__all__ = ["Drift", "MissingExtraError", "Search", "connect", "drift", "features", "score_to_file", "search"]
