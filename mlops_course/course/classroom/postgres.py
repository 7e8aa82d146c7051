"""A PostgreSQL server of the room's own, in a folder, on this machine only.

PostgreSQL's own programs make and run it (`initdb`, `pg_ctl`, `pg_dump`); this module finds and calls them. As they
refuse to work for the superuser, they are called as the user `postgres` then, to whom the folder is given.
"""

import os
import secrets
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cluster", "PostgresError", "dump", "load", "new_password", "programs", "without_password"]

OWNER = "mlops"  # of the databases
ACCOUNT = "postgres"  # of the operating system, if we are the superuser
SECONDS = 60  # that PostgreSQL may take to start or stop
CONNECTIONS = 200  # four workers of MLflow hold up to fifteen each, and tracking and accounts have pools of their own


class PostgresError(RuntimeError):
    """PostgreSQL could not do what it was asked for; the message has its own words."""


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest there is; None if it is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]))
    if found := shutil.which("initdb"):
        places.insert(0, Path(found).resolve().parent)
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)


@dataclass(frozen=True)
class Cluster:
    """Databases in a folder, and the server that answers for them on a port of this machine."""

    folder: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{OWNER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make the folder of data, unless it is there whole. Raises PostgresError."""
        if (self.folder / "PG_VERSION").exists():
            return
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        secret = new.with_name(f"{new.name}.password")
        secret.write_text(self.password)
        secret.chmod(0o600)
        common = ["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--username={OWNER}"]
        try:
            _hand_over(new, secret)
            _run("initdb", "-D", str(new), *common, f"--pwfile={secret}")
        finally:
            secret.unlink()
        new.rename(self.folder)

    def start(self) -> None:
        """Start the server, or return if it runs. Raises PostgresError with the end of its log."""
        if self.runs():
            return
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='' "
        options += f"-c max_connections={CONNECTIONS} -c log_error_verbosity=terse"  # without values of rows, or names
        log = self.folder / "server.log"
        try:
            _run("pg_ctl", "-D", str(self.folder), "-l", str(log), "-w", "-t", str(SECONDS), "-o", options, "start")
        except PostgresError as error:
            said = log.read_text(errors="replace")[-1_000:] if log.exists() else ""
            raise PostgresError(f"{error} {said}".strip()) from error

    def alive(self) -> bool:
        """Whether the server of this folder is there, whatever listens on its port."""
        return _call("pg_ctl", "-D", str(self.folder), "status").returncode == 0

    def runs(self) -> bool:
        """Whether the server runs and takes connections."""
        if not self.alive():
            return False
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server, if it runs; `at_once` as a crash does, so that the next start recovers what was open."""
        if self.alive():
            mode = "immediate" if at_once else "fast"
            _run("pg_ctl", "-D", str(self.folder), "-m", mode, "-w", "-t", str(SECONDS), "stop")

    def create_databases(self, names: Sequence[str]) -> None:
        """Create those of the databases that are not there yet."""
        import psycopg

        address = {"host": "127.0.0.1", "port": self.port, "user": OWNER, "password": self.password}
        with psycopg.connect(dbname="postgres", autocommit=True, connect_timeout=10, **address) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in names:
                if name not in there:
                    connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))


def new_password() -> str:
    """Words that nobody guesses, fit for a URL."""
    return secrets.token_urlsafe(18)


def without_password(url: str) -> tuple[str, dict[str, str]]:
    """The URL as others may read it in the list of processes, and the environment that has its password."""
    parts = urllib.parse.urlsplit(url)
    if parts.password is None:
        return url, {}
    login, _, place = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=f"{login.partition(':')[0]}@{place}").geturl()
    return plain, {"PGPASSWORD": urllib.parse.unquote(parts.password)}


def dump(url: str, file: Path, *, snapshot: str) -> None:
    """Write a database to a file, as a snapshot of it that is still held. Raises PostgresError."""
    place, login = _plain(url)
    options = ["--format=custom", f"--snapshot={snapshot}", f"--file={file}", f"--dbname={place}"]
    _run("pg_dump", *options, login=login)


def load(url: str, file: Path) -> None:
    """Fill an empty database from a file that `dump` wrote, wholly or not at all. Raises PostgresError."""
    options = ["--single-transaction", "--exit-on-error", "--no-owner"]
    place, login = _plain(url)
    _run("pg_restore", *options, f"--dbname={place}", str(file), login=login)


def _plain(url: str) -> tuple[str, dict[str, str]]:
    """The URL as PostgreSQL's own programs read it, and the environment that has its password."""
    return without_password(url.replace("postgresql+psycopg://", "postgresql://", 1))


def _hand_over(*paths: Path) -> None:
    """Give files to the account that the programs run as. Raises PostgresError if it cannot get through to them."""
    if not _is_superuser():
        return
    folder = paths[0].parent
    if subprocess.run(["runuser", "-u", ACCOUNT, "--", "test", "-x", str(folder)], timeout=SECONDS).returncode != 0:
        raise PostgresError(
            f"expected a folder that the account {ACCOUNT} can get through to, {folder} is not; PostgreSQL refuses to "
            "work for the superuser: start the room as another user, or say --folder with one that all may enter"
        )
    for path in paths:
        shutil.chown(path, ACCOUNT)


def _is_superuser() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _call(program: str, *arguments: str, login: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run a program: with the variables of a login as ourselves, without as the account to whom the folder belongs."""
    place = programs()
    if place is None:
        raise PostgresError("expected PostgreSQL's programs (initdb, pg_ctl, pg_dump), found none; install PostgreSQL")
    switch = ["runuser", "-u", ACCOUNT, "--"] if login is None and _is_superuser() else []
    command = [*switch, str(place / program), *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program != "pg_ctl" or "start" not in arguments else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={**os.environ, **(login or {})},
        text=True,
        timeout=2 * SECONDS,
    )


def _run(program: str, *arguments: str, login: Mapping[str, str] | None = None) -> None:
    done = _call(program, *arguments, login=login)
    if done.returncode != 0:
        raise PostgresError(f"{program} failed with code {done.returncode}: {(done.stdout or '').strip()[-1_000:]}")
