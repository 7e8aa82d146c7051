"""The story of the demo, on the small case: all of it happens, in order, and leaves pages to look at."""

import pytest
import small_case

from mlops_course.operations.deployment import rollout
from mlops_course.system import demo, service
from mlops_course.system.system import System

pytestmark = pytest.mark.long  # what it is put together from has quick tests


@pytest.fixture(scope="module")
def told(warm, tmp_path_factory):
    """The lines of the story, and its pages; the canary needs few rows here."""
    plan = rollout.CanaryPlan(max_latency_ms=1e4, max_cost=120, steps=(0.3, 0.6), answers_per_step=4)
    system, said = System("small_case", warm(tmp_path_factory.mktemp("demo"))), []
    with pytest.MonkeyPatch.context() as patch:
        for module in (service, service.canary):
            patch.setattr(module, "canary_plan", lambda system: plan)
        pages = demo.tell(system, say=said.append, train_on=6)
    return system, said, pages


def line_with(said, text):
    found = [number for number, line in enumerate(said) if text in line]
    assert found, f"nothing was said of {text!r}"
    return found[0]


def test_the_story_is_told_in_order(told):
    _, said, _ = told
    order = [
        "pumps: how likely",
        "it is champion",
        "It answers on http://127.0.0.1:",
        "a feed breaks",
        "rows were answered",
    ]
    places = [line_with(said, text) for text in order]
    assert places == sorted(places)
    assert line_with(said, "a challenger") < line_with(said, "rows were answered")


def test_the_bad_challenger_never_becomes_champion(told):
    system, *_ = told
    own = System("small_case", system.workspace.replay(demo.NAME))
    history = own.registry.history()
    tried = history[history["reason"] == "looks good on paper"]["version"]
    assert len(tried) == 1
    assert not ((history["event"] == "promoted") & history["version"].isin(tried)).any()


def test_every_page_is_there_and_loads_nothing(told):
    _, _, pages = told
    assert set(pages) == {"release", "monitoring", "live page, as it was last", "ledger"}
    for name in ("release", "monitoring", "live page, as it was last"):
        page = pages[name].read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>")
        assert 'src="http' not in page
        assert '<link rel="stylesheet"' not in page


def test_the_champion_of_the_workspace_is_the_first_release(told):
    system, *_ = told
    assert system.registry.champion() == 1
    assert [*system.registry.history()["event"]] == ["promoted"]


def test_every_day_is_in_the_ledger(told):
    *_, pages = told
    assert len(pages["ledger"].read_text(encoding="utf-8").splitlines()) == 1 + demo.LAST
    assert small_case.batches()[6] in pages["ledger"].read_text(encoding="utf-8")
