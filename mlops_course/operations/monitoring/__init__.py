"""Monitoring: what tells that a running model, or the data it gets, has gone wrong.

`drift` measures how rows differ from a reference, `signals` turns each day into plain numbers, `alerting` says which of
them are unusual, `performance` estimates quality before labels come, and `dashboard` shows all of it. `faults` breaks a
stream on purpose, so that the others can be tried.
"""
