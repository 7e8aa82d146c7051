"""The steps of the training pipeline. A step is a function; each parameter names the step or the input that it needs.

    rows         raw_tables → valid_tables → prediction_rows → usable_rows → split_rows    what the model may see
    candidate    split_rows → fold_scores → chosen_model → calibrated_model, threshold     the candidate
    judgement    → evidence, latency_ms, champion_comparison → gate_report                 what speaks for and against
    record       → lineage_run → registered_version                                        what is kept

Called by hand, a step is a plain function. Some steps have many parameters: these are the arrows of the graph, and a
step that took a parcel would run again for each change in it. Four rules make the results safe to keep and to reuse:

- Tables go from step to step as versions of snapshots in the workspace: cheap to compare, small to keep, and verified
  when they are loaded.
- A step declares with `depends_on` the code that it calls, because a cache that looks at the step alone would not see
  that a stage has changed. `tests/system/test_pipeline_steps.py` compares the declaration with the code.
- A step that reads or writes the registry depends on the store: workspaces may share results, but not versions.
- Only the last two steps change the world outside snapshots and reports, and both may be repeated: they look for what
  an earlier attempt left before they add to it.
"""

from .candidate import calibrated_model, chosen_model, fold_scores, threshold
from .judgement import champion_comparison, evidence, gate_report, latency_ms
from .record import lineage_run, registered_version
from .rows import prediction_rows, raw_tables, split_rows, usable_rows, valid_tables

__all__ = [  # noqa: RUF022 - in the order in which they run
    "raw_tables",
    "valid_tables",
    "prediction_rows",
    "usable_rows",
    "split_rows",
    "fold_scores",
    "chosen_model",
    "calibrated_model",
    "threshold",
    "evidence",
    "latency_ms",
    "champion_comparison",
    "gate_report",
    "lineage_run",
    "registered_version",
]
