"""The training pipeline: raw batches in, a registered version out, and nothing done twice.

    train             run what has to be run, and say what came of it
    prediction_rows   the rows of some batches, as a training sees them
    graph             the steps and what each needs, as Mermaid text
    columns_of        the columns that steps ask for, by what they are used for
    TrainingResult    the outcome: version, gate report, metrics, and which steps ran

The steps are the functions of `steps`. Apache Hamilton puts them in order by the names of their parameters and keeps
each result under what it was made from: the fingerprints of the arguments, and a digest of the code that the step
declares (`dependencies`). So a rerun does nothing, a change in what a step declares reruns it and what uses its result,
and a run that was killed goes on where it stopped.

    result = train(case, ["2013-01", "2013-02"], workspace=Workspace.locate(), seed=0)
    result.gate.passed, result.executed
"""

from .runs import TrainingResult, columns_of, graph, prediction_rows, train

__all__ = ["TrainingResult", "columns_of", "graph", "prediction_rows", "train"]
