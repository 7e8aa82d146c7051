"""The running case: will this flight arrive more than 15 minutes late, asked two hours before departure?

A case is a package with these seven names; the pipeline asks for nothing else:

    SPECIFICATION   path of the specification
    batches()       names of the batches there are, in order of time
    files(names)    the files that batches are read from
    read(names)     raw tables of those batches
    schemas()       what each raw table must look like
    build(tables)   one row a prediction: what was known then, when the label came, the label
    derive(inputs)  the row-wise feature code that travels inside the model

Two more are optional. `FAULTS` is for drills: what could go wrong with its feeds. `tables_as_of(tables, instant)` gives
the raw tables as they were known at an instant; with it a probe of `readiness` finds inputs that know the future.
"""

from mlops_course.flights.faults import FAULTS
from mlops_course.flights.features import build, derive
from mlops_course.flights.schema import schemas
from mlops_course.flights.timeline import SPECIFICATION, batches, files, read, tables_as_of

__all__ = ["FAULTS", "SPECIFICATION", "batches", "build", "derive", "files", "read", "schemas", "tables_as_of"]
