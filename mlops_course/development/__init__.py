"""Model development: from raw tables to a model that the gate has judged.

`data` and `validation` keep and check tables, `features` joins what was known at the time, `training` fits, tracks and
selects models, `evaluation` measures them with intervals, and `gate` decides whether one may go on. Each stands alone.
"""
