"""Keyed digests: what a record may keep of the id of a row that was deleted.

The plain hash of an id that can be guessed is undone by hashing every id that there can be. A keyed hash (HMAC, RFC
2104) cannot be tried without its key. It is a pseudonym (GDPR, article 4(5)): whoever has the key can still find the id
(recital 26), so the key is kept apart from the records, and no copy of the records takes it along.

    DigestKey   makes digests of ids, and finds the ids of which digests are on record
    stored_key  the key of the environment or of a file, made there if that is wished
    own_secret  a secret in a file, made there at the first call

>>> key = DigestKey(b"a secret of thirty-two characters")
>>> key.known(["order 17", "order 18"], [key.digest("order 18")])
['order 18']
"""

import hmac
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import mkstemp

__all__ = ["DigestKey", "DigestKeyError", "own_secret", "stored_key"]

VARIABLE = "MLOPS_DELETION_KEY"
MIN_CHARACTERS = 32  # of a key; one that is made has 64, which are 256 random bits


class DigestKeyError(RuntimeError):
    """The key of the digests is missing, too short, or another one than they were made with."""


@dataclass(frozen=True)
class DigestKey:
    """A secret. A digest begins with a name of its key, by which another key is told from this one."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """A name that does not give the secret away."""
        return hmac.digest(self.secret, b"name of the key", "sha256").hex()[:8]

    def digest(self, name: str) -> str:
        """Return the digest of an id: the name of the key, a colon, and HMAC-SHA-256 in hexadecimal digits."""
        return f"{self.name}:{hmac.digest(self.secret, name.encode(), 'sha256').hex()}"

    def known(self, names: Iterable[str], digests: Collection[str]) -> list[str]:
        """Return those ids whose digest is among `digests`. Raises DigestKeyError if one was made with another key."""
        if foreign := [digest for digest in digests if not digest.startswith(f"{self.name}:")]:
            raise DigestKeyError(
                f"expected digests made with the key {self.name}, got {len(foreign)} of {len(digests)} made with "
                f"another key or none, such as {foreign[0][:12]}...; give back the key that they were made with"
            )
        wanted = set(digests)
        return [name for name in names if self.digest(name) in wanted]


def stored_key(file: Path, *, make: bool) -> DigestKey:
    """Return the key that the environment variable MLOPS_DELETION_KEY holds, or else the file.

    With `make`, a file that is missing is written with a random key; on POSIX systems only its owner may read it. A
    key that is lost cannot be made again: its digests then say nothing, and every deletion has to be asked for anew.

    Raises DigestKeyError if there is no key and none is to be made, or if it is too short.
    """
    where, secret = VARIABLE, os.environ.get(VARIABLE)
    if secret is None:
        if make and not file.exists():
            _write(file)
        if not file.exists():
            raise DigestKeyError(
                f"expected the key of the deletion digests in {VARIABLE} or in {file}, got neither; put it back from "
                "where it is kept. If it is lost, remove the digests and ask for each deletion again"
            )
        where, secret = file, file.read_text(encoding="utf-8").strip()
    if len(secret) < MIN_CHARACTERS:
        raise DigestKeyError(f"expected a key of {MIN_CHARACTERS} characters or more in {where}, got {len(secret)}")
    return DigestKey(secret.encode())


def own_secret(file: Path) -> bytes:
    """Return the secret in a file that only its owner may read; it is made at the first call.

    For marks that this computer makes and checks by itself: if the file is lost, all old marks count as wrong.
    """
    if not file.exists():
        _write(file)
    return file.read_bytes()


def _write(file: Path) -> None:
    """Write a random key, whole or not at all; one that another process has written meanwhile stays."""
    descriptor, partial = mkstemp(prefix=f".{file.name}.", dir=file.parent)  # only its owner may read it
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        written.write(token_hex(32))
        written.flush()
        os.fsync(written.fileno())
    with suppress(FileExistsError):
        os.link(partial, file)  # unlike a rename, it never replaces a file
    os.unlink(partial)
