"""Keep a table under the version of its content, and bring any version back."""

import tempfile

import pandas as pd

from mlops_course.development import data

orders = pd.DataFrame({"id": [1, 2, 3], "price": [9.5, 20.0, 7.0]})
with tempfile.TemporaryDirectory() as store:
    version = data.save_snapshot({"orders": orders}, store)
    again = data.save_snapshot({"orders": orders.sample(frac=1, random_state=0)}, store)
    restored = data.load_snapshot(store, version)["orders"]
print("version", version, "| shuffled:", "the same" if again == version else "another")
assert again == version
assert len(restored) == 3
