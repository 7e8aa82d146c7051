"""The service of a case: registry, prediction log and application put together, and run on this machine.

application    the ASGI application for a system, which serves what its registry says
run            the application behind uvicorn, until Ctrl-C or SIGTERM
Endpoint       host, port and token of a service
servable       a registered model as the service needs it
follow_shadow  answer in shadow what is new in the log; a running service has a process that does so
step_canary    judge the canary by what is new in the log; a running service does so each second
shadow_log     the log of what versions in shadow answered
shadow_table   how the version in shadow did beside the champion, on the same requests
canary_plan    shares and bars of a canary, from the specification
canary_verdict how a canary stands by what is in the log

`serving` answers requests; this stage does what happens beside them. A version in shadow runs in a process of its own
that reads the prediction log, so it can be slow, wrong or dead without a caller noticing. A canary is judged by what
the log says of it, and each step that it takes, up or out, goes to the history as if a person had taken it.
"""

from .canary import canary_plan, canary_verdict, step_canary
from .models import servable
from .server import Endpoint, application, run
from .shadow import follow_shadow, shadow_log, shadow_table

__all__ = [
    "Endpoint",
    "application",
    "canary_plan",
    "canary_verdict",
    "follow_shadow",
    "run",
    "servable",
    "shadow_log",
    "shadow_table",
    "step_canary",
]
