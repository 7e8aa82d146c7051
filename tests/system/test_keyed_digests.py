"""Keyed digests: found again with the key and not without it, and the key is made once, for its owner alone."""

import hashlib
import hmac
import os
import re

import pytest

from mlops_course.system.keyed_digests import DigestKey, DigestKeyError, stored_key

IDS = [f"order {number}" for number in range(200)]
ONE, OTHER = DigestKey(b"1" * 32), DigestKey(b"2" * 32)


def test_a_digest_is_that_of_hmac_with_the_name_of_its_key():
    by_hand = hmac.new(b"1" * 32, b"order 17", hashlib.sha256).hexdigest()
    assert ONE.digest("order 17") == f"{ONE.name}:{by_hand}"


def test_with_the_key_those_ids_are_found_whose_digests_are_there():
    assert ONE.known(IDS, [ONE.digest("order 17"), ONE.digest("order 300")]) == ["order 17"]


@pytest.mark.parametrize("tried", [OTHER.digest, lambda name: hashlib.sha256(name.encode()).hexdigest()])
def test_hashing_every_id_there_can_be_finds_nothing_without_the_key(tried):
    on_record = {ONE.digest(name).partition(":")[2] for name in IDS}
    assert not on_record & {tried(name).rpartition(":")[2] for name in IDS}


@pytest.mark.parametrize("foreign", [OTHER.digest("order 17"), hashlib.sha256(b"order 17").hexdigest()])
def test_digests_of_another_key_or_none_are_refused_not_passed_over(foreign):
    with pytest.raises(DigestKeyError, match="got 1 of 2 made with another key or none"):
        ONE.known(IDS, [ONE.digest("order 1"), foreign])


def test_the_secret_is_not_shown():
    assert "111" not in repr(ONE) + ONE.name + ONE.digest("order 17")[:12]


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    file = tmp_path / "deletion.key"
    made = stored_key(file, make=True)
    assert stored_key(file, make=True) == stored_key(file, make=False) == made
    assert re.fullmatch("[0-9a-f]{64}", file.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["deletion.key"]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600


def test_two_workspaces_have_two_keys(tmp_path):
    assert stored_key(tmp_path / "one", make=True) != stored_key(tmp_path / "two", make=True)


def test_the_key_of_the_environment_counts_and_no_file_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_DELETION_KEY", "x" * 32)
    found = stored_key(tmp_path / "deletion.key", make=True)
    assert found == DigestKey(b"x" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_is_an_error_that_says_where_it_should_be(tmp_path):
    with pytest.raises(DigestKeyError, match=r"in MLOPS_DELETION_KEY or in .*deletion\.key, got neither"):
        stored_key(tmp_path / "deletion.key", make=False)


@pytest.mark.parametrize("text", ["", "short"])
def test_a_short_key_is_refused(tmp_path, text):
    (tmp_path / "deletion.key").write_text(text)
    with pytest.raises(DigestKeyError, match=f"32 characters or more in .*, got {len(text)}"):
        stored_key(tmp_path / "deletion.key", make=True)
