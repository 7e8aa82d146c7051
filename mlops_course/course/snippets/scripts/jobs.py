"""Say which checks a change needs, run them on a clean copy, and let only what is green go live."""

import tempfile
from pathlib import Path

import pandas as pd

from mlops_course.operations import delivery

jobs = {"unit": {"run": "python -m unit"}, "gate": {"run": "python -m gate", "needs": ["unit"]}}
workflow = delivery.Workflow(jobs, {"*.md": [], "unit.py": ["unit"]}, {"new data": ["gate"]})
live = []
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    for number, gate in enumerate(["", "raise SystemExit('worse than before')"]):
        time = pd.Timestamp("2026-11-02", tz="UTC") + pd.Timedelta(days=number)
        files = {"unit.py": "", "gate.py": gate}
        commit = delivery.commit(Path(place), files, message=f"Change {number}", time=time)
        delivery.run(Path(place), commit, workflow=workflow)
        try:
            live += delivery.deploy(Path(place), commit, workflow=workflow)
        except delivery.RefusedError as error:
            print(error)
print(len(live), "commit is live")
assert len(live) == 1
