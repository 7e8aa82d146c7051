"""The records of real delivery: copies of the workflow files are current, and the tables hold together."""

from pathlib import Path

import pandas as pd
import pytest

from mlops_course.course import records

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def test_the_workflow_files_are_those_of_the_repository():
    assert records.workflows() == {path.name: path.read_text(encoding="utf-8") for path in WORKFLOWS.iterdir()}


def test_a_release_that_mends_another_is_the_next_one():
    releases = records.python_releases()
    assert releases["released"].is_monotonic_increasing
    assert releases["version"].is_unique
    before = releases["version"].shift(1)
    mending = releases["mends"].notna()
    assert (releases["mends"] == before)[mending].all()


def test_a_change_was_written_before_its_release_and_each_hurried_release_has_one():
    changes = records.python_changes()
    releases = records.python_releases().set_index("version")
    out = changes["version"].map(releases["released"])
    assert (changes["written"] <= out).all()
    hurried = releases.index[releases["mends"].notna()]
    assert set(changes.loc[changes["kind"] == "mend", "version"]) == set(hurried)


@pytest.mark.parametrize("read", [records.python_releases, records.python_changes])
def test_nobody_can_change_what_the_next_one_reads(read):
    once = read()
    once.iloc[0, 0] = "changed"
    pd.testing.assert_frame_equal(read().iloc[1:], once.iloc[1:])
    assert read().iloc[0, 0] != "changed"
