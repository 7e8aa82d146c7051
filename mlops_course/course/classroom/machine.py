"""What a room needs of its machine: free ports, and processes that end with all their children."""

import errno
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["Child", "PortTakenError", "RoomError", "end_family", "expect_free", "free_port", "is_free"]


class RoomError(RuntimeError):
    """The room cannot do what it was asked for; the message says why and what to do."""


class PortTakenError(RoomError):
    """Something else listens on the port."""


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def expect_free(host: str, port: int, what: str) -> None:
    """Raises PortTakenError if something listens on the port that `what` needs, RoomError if it cannot be used."""
    away = f"expected an address of this machine, got {host}; 0.0.0.0 stands for all"
    try:
        places = {(found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise RoomError(away) from error
    if not [place for place in sorted(places) if _can_bind(*place, what)]:
        raise RoomError(away)


def _can_bind(family: int, address: tuple, what: str) -> bool:
    """Whether this machine has the address. Raises as `expect_free` does if it has, and the port cannot be used."""
    try:
        with socket.socket(family) as probe:
            if os.name != "nt":  # there it would let two listen
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # as servers do: else :: would also stand for 0.0.0.0
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        taken = error.errno == errno.EADDRINUSE
        raise (PortTakenError if taken else RoomError)(
            f"expected port {address[1]} for {what}, it {'is taken' if taken else 'cannot be used'} ({error}); "
            f"{'stop what listens there, or say --port' if taken else 'take another one with --port'}"
        ) from error
    return True


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on a port."""
    with suppress(RoomError):
        expect_free(host, port, "a test")
        return True
    return False


class Child:
    """A process that ends with all its children."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.command, self.environment, self.log = command, environment, log
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the process, or start it again."""
        self.stop()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def answers(self, address: str, *, seconds: float) -> bool:
        """Wait until its page /health answers; False if the process ends or takes longer than so many seconds."""
        import httpx

        until = time.monotonic() + seconds
        while time.monotonic() < until and self.alive():
            with suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health", timeout=10, trust_env=False).status_code == 200:
                    return True
            time.sleep(0.2)
        return False

    def stop(self) -> None:
        """Ask the process and its children to end, and kill those that do not."""
        if self.process is None:
            return
        end_family(self.process.pid)
        self.process.wait(10)
        self.process = None

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-1_500:]


def end_family(pid: int) -> None:
    """End a process and its children. Children that outlived it are in its group, and hold its port."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        for one in psutil.wait_procs(family, timeout=10)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
