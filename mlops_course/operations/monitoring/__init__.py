"""Monitoring: how to see that a running model or its data have gone wrong.

`drift` measures how rows differ from a reference, `signals` describes each day in plain numbers, `alerting` says which
of them are unusual, `performance` estimates quality before labels come, and `dashboard` shows all of it. `faults` puts
faults into a stream on purpose, to try the others.
"""
