"""The system: the only folder that puts the stages together.

`workspace` is the folder that holds all state, and `system` a case in it. `pipeline` trains, `scoring` answers batches,
files and streams, `release` goes all the way to a champion, and `service` answers over HTTP. `monitor` follows the
prediction log, and `replay` lives through months of it. `governance` traces, deletes and reports; `readiness` scores
the system; `cluster` does the work on many machines. `report`, `environment` and `demo` serve people;
`loggers` holds libraries back that say too much.
"""
