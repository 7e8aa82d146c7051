"""Deployment: the ways in which a registered model answers.

`serving` answers requests over HTTP, `batch` answers files, and `streaming` follows events. `compiled` makes one call
of a model quick, `prediction_log` keeps every prediction, and `rollout` decides about a canary from that log.
"""
