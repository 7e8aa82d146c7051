"""The service of a case: registry, prediction log and application put together, and run on this machine.

application    the ASGI application for a system: what its registry says is what it serves
run            the application behind uvicorn, until Ctrl-C or SIGTERM
servable       a registered model made ready to answer rows
follow_shadow  answer in shadow what the log has come to hold; a running service has a process that does so
step_canary    judge the canary by what the log has come to hold; a running service does so each second
shadow_table   how the version in shadow did beside the champion, request by request

What happens on the way of a request is in `serving`; here is what happens beside it. Once a second the history of the
registry is looked at. A version in shadow is answered by a process of its own that reads the prediction log, so it can
be slow, wrong or dead without a caller noticing. A canary is judged by what the log says of it, and each step that it
takes, up or out, goes to the history as if a person had taken it.
"""

from .canary import canary_plan, canary_verdict, step_canary
from .models import servable
from .server import application, run
from .shadow import follow_shadow, shadow_log, shadow_table

__all__ = [
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
