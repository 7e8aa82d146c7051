"""What MLflow's server asks before each call in a room: who calls, and whether files would leave the room.

MLflow imports this module by its name in the room's file of accounts (`authorization_function`).
"""

from typing import Any

__all__ = ["authenticate"]

OUTSIDE = (
    '{"error_code": "INVALID_PARAMETER_VALUE", "message": "expected no artifact_location: files of this room stay in '
    'its folder; leave it out"}'
)


def authenticate() -> Any:
    """Return who calls by name and password, or the response that refuses the call.

    An experiment with a place of its own for files is refused: the server would write there, on the teacher's machine.
    """
    from flask import Response, request
    from mlflow.server.auth import authenticate_request_basic_auth

    if request.path.rstrip("/").endswith("/experiments/create"):
        asked = request.get_json(force=True, silent=True)
        given = asked.items() if isinstance(asked, dict) else ()
        if any(value and name.replace("_", "").lower() == "artifactlocation" for name, value in given):
            return Response(OUTSIDE, status=400, mimetype="application/json")
    return authenticate_request_basic_auth()
