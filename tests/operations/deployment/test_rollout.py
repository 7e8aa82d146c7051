"""A canary holds its laws: sticky shares, evidence that may be looked at any time, and a stop that stays a stop."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlops_course.operations.deployment import rollout

IDS = [f"request {number}" for number in range(4000)]
PLAN = rollout.CanaryPlan(max_latency_ms=200, max_cost=60, steps=(0.1, 0.25, 0.5), answers_per_step=20)
MOST, EXAMPLES = 6, 20  # values, each assignment of which is tried: twice as many for each more

texts = st.lists(st.text(max_size=8), max_size=30)
shares = st.floats(0, 1)
inner_shares = st.floats(0.05, 0.95)
part = st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1)


@st.composite
def traffic(draw, min_size=0, max_size=40):
    """Who answered, the values in parts of the limit, and the share of each moment."""
    rows = draw(st.lists(st.tuples(st.booleans(), part, inner_shares), min_size=min_size, max_size=max_size))
    challenger, values, share = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(challenger, bool), np.array(values, float), np.array(share, float)


def answers(size, *, share=0.1, seed=0, failing=0.0, slow=0.0):
    """Answers of a service whose champion never fails and is never slow."""
    random = np.random.default_rng(seed)
    challenger = random.random(size) < share
    latency = np.where(challenger & (random.random(size) < slow), 500.0, 20.0)
    failed = challenger & (random.random(size) < failing)
    return pd.DataFrame({"challenger": challenger, "share": share, "failed": failed, "latency_ms": latency})


def labels(size, *, share=0.1, seed=0, factor=1.0):
    """Labels that cost 60 in 1 of 10 rows of the champion, and `factor` times as often for the challenger."""
    random = np.random.default_rng(seed)
    challenger = random.random(size) < share
    costly = random.random(size) < 0.1 * np.where(challenger, factor, 1.0)
    return pd.DataFrame({"challenger": challenger, "share": share, "cost": np.where(costly, 60.0, 0.0)})


# Who gets it ----------------------------------------------------------------------------------------------------------


@given(texts, shares, st.text(max_size=5), st.randoms())
def test_an_id_gets_the_same_answer_in_any_company(ids, share, salt, random):
    together = dict(zip(ids, rollout.in_share(ids, share, salt=salt), strict=True))
    shuffled = random.sample(ids, len(ids))
    assert rollout.in_share(shuffled, share, salt=salt).tolist() == [together[name] for name in shuffled]


def test_an_id_gets_the_same_answer_on_every_machine():
    chosen = rollout.in_share(["a", "b", "c", "d", "é", "f"], 0.5, salt="canary")
    assert chosen.tolist() == [False, True, True, True, True, False], (
        "written down once: a change moves ids to the other model in mid-canary"
    )


@given(texts, shares, shares, st.text(max_size=5))
def test_raising_the_share_only_adds_ids(ids, one, other, salt):
    before, after = (rollout.in_share(ids, share, salt=salt) for share in sorted([one, other]))
    assert (before <= after).all()


@given(texts, st.text(max_size=5))
def test_no_id_is_in_the_share_0_and_every_id_in_the_share_1(ids, salt):
    assert not rollout.in_share(ids, 0, salt=salt).any()
    assert rollout.in_share(ids, 1, salt=salt).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_ids_is_what_coins_would_give(share):
    chosen = rollout.in_share(IDS, share, salt="canary")
    assert stats.binomtest(int(chosen.sum()), len(IDS), share).pvalue > 1e-3


def test_another_salt_picks_others_independently():
    one, other = (rollout.in_share(IDS, 0.3, salt=salt) for salt in ("first", "second"))
    assert stats.binomtest(int((one & other).sum()), len(IDS), 0.09).pvalue > 1e-3


@pytest.mark.parametrize(
    ("ids", "share", "salt", "error"),
    [
        (["a"], 10, "s", "give a share, not a percentage"),
        (["a"], float("nan"), "s", "expected a share from 0 to 1"),
        ("abc", 0.1, "s", "put a single id into a list"),
        (["a", 7], 0.1, "s", "got 7; convert with str"),
        (["a"], 0.1, 7, "got 7; convert with str"),
    ],
)
def test_ids_that_cannot_be_assigned_are_refused(ids, share, salt, error):
    with pytest.raises((TypeError, ValueError), match=error):
        rollout.in_share(ids, share, salt=salt)


# How strong the evidence is -------------------------------------------------------------------------------------------


def every_assignment(share_after, size):
    """Each way to assign `size` values, with the share of each moment and the probability of it all."""
    for way in product([False, True], repeat=size):
        share = np.array([share_after(way[:moment]) for moment in range(size)])
        yield np.array(way), share, np.prod(np.where(way, share, 1 - share))


def raised_after_two(past):
    """A share that is raised by what was seen: above one half after two answers of the challenger."""
    return 0.2 if sum(past) < 2 else 0.7


@given(st.lists(part, min_size=1, max_size=MOST))
@settings(max_examples=EXAMPLES)
def test_on_equal_values_the_expected_e_value_is_1_whatever_the_drift(values):
    # exact, over all assignments: the values are any sequence at all, and the same whoever answers
    expected = sum(
        chance * rollout.evidence(way, np.array(values), share=share, limit=1).e_values
        for way, share, chance in every_assignment(raised_after_two, len(values))
    )
    assert expected == pytest.approx(1.0)


@given(st.lists(st.tuples(part, part), min_size=1, max_size=MOST))
@settings(max_examples=EXAMPLES)
def test_with_a_challenger_that_is_never_worse_the_expected_e_value_is_at_most_1(pairs):
    better, worse = np.sort(pairs, axis=1).T
    expected = sum(
        chance * rollout.evidence(way, np.where(way, better, worse), share=share, limit=1).e_values[-1]
        for way, share, chance in every_assignment(raised_after_two, len(pairs))
    )
    assert expected <= 1 + 1e-9


@given(st.lists(part, min_size=1, max_size=MOST), st.floats(1.01, 50))
@settings(max_examples=EXAMPLES)
def test_an_equal_challenger_ever_reaches_a_bar_with_probability_one_over_it_at_most(values, bar):
    reached = sum(
        chance * (rollout.evidence(way, np.array(values), share=share, limit=1).e_value >= bar)
        for way, share, chance in every_assignment(raised_after_two, len(values))
    )
    assert reached <= 1 / bar


@given(traffic(), st.floats(1e-6, 1e6))
def test_the_currency_does_not_matter(case, rate):
    challenger, values, share = case
    one = rollout.evidence(challenger, values, share=share, limit=1)
    other = rollout.evidence(challenger, values * rate, share=share, limit=np.nextafter(rate, np.inf))
    assert other.e_values == pytest.approx(one.e_values, rel=1e-6)


@given(traffic(), st.integers(0, 40))
def test_a_later_value_changes_nothing_that_was_said_before(case, size):
    challenger, values, share = case
    whole = rollout.evidence(challenger, values, share=share, limit=1)
    early = rollout.evidence(challenger[:size], values[:size], share=share[:size], limit=1)
    assert early.e_values == pytest.approx(whole.e_values[:size])
    assert early.e_value <= whole.e_value * (1 + 1e-9)


@given(traffic(min_size=1), st.floats(0.05, 0.95))
@settings(max_examples=60)
def test_each_value_is_used_once_as_one_factor_for_each_bet(case, share):
    challenger, values, _ = case
    stakes, centre = np.ones(len(rollout.BETS)), 0.0
    for count, (side, value) in enumerate(
        zip(challenger, values, strict=True), start=1
    ):  # the definition, word by word
        z = (value - centre) / share if side else (centre - value) / (1 - share)
        stakes = stakes * (1 + rollout.BETS * z / max(centre / share, (1 - centre) / (1 - share)))
        centre = values[:count].sum() / (count + 1)
    found = rollout.evidence(challenger, values, share=share, limit=1)
    assert found.e_values[-1] == pytest.approx(stakes.mean(), rel=1e-6)


def test_means_and_counts_are_those_of_each_side():
    found = rollout.evidence(np.array([True, False, True]), np.array([1.0, 2.0, 4.0]), share=0.5, limit=4)
    assert (found.challenger_mean, found.challenger_n) == (2.5, 2)
    assert (found.champion_mean, found.champion_n) == (2.0, 1)


def stopped(draw, seeds=100, size=2000, share=0.3, bar=20):
    """In how many of `seeds` the evidence reaches the bar, with values drawn by `draw(random, challenger)`."""
    count = 0
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        challenger = random.random(size) < share
        count += rollout.evidence(challenger, draw(random, challenger), share=share, limit=1).e_value >= bar
    return count


def test_a_challenger_twice_as_costly_is_stopped():
    assert stopped(lambda random, challenger: random.random(2000) < np.where(challenger, 0.2, 0.1)) >= 98


def test_a_better_challenger_is_not_stopped():
    assert stopped(lambda random, challenger: random.random(2000) < np.where(challenger, 0.05, 0.1)) <= 1


@pytest.mark.parametrize(
    "rate",
    [np.linspace(0, 1, 2000), np.linspace(1, 0, 2000), np.sin(np.arange(2000) / 50) ** 2, np.arange(2000) % 2],
    ids=["rising", "falling", "day and night", "to and fro"],
)
def test_drift_that_hits_both_alike_stops_an_equal_challenger_as_seldom_as_promised(rate):
    assert stopped(lambda random, _: random.random(2000) < rate) <= 5


def test_a_share_raised_while_the_days_get_worse_is_not_taken_for_harm():
    day = np.repeat([0, 1], 1000)
    share, rate = np.array([0.1, 0.5])[day], np.array([0.05, 0.3])[day]
    random = np.random.default_rng(0)
    challenger, values = random.random(2000) < share, (random.random(2000) < rate).astype(float)
    found = rollout.evidence(challenger, values, share=share, limit=1)
    plain = stats.ttest_ind(values[challenger], values[~challenger])
    assert found.challenger_mean > 1.4 * found.champion_mean
    assert plain.pvalue < 1e-4
    assert found.e_value < 20


def test_a_t_test_at_every_look_stops_equal_challengers_and_the_evidence_does_not():
    def costs(random, _):
        return np.where(random.random(2000) < 0.1, 1.0, 0.0)

    def t_test_ever_stops(seed):
        random = np.random.default_rng(seed)
        challenger = random.random(2000) < 0.3
        values, looks = costs(random, challenger), np.arange(49, 2000, 50)

        def summary(side):
            count, total = np.cumsum(side)[looks], np.cumsum(values * side)[looks]
            mean = total / count
            return mean, np.sqrt(mean * (1 - mean) * count / (count - 1)), count

        tests = stats.ttest_ind_from_stats(*summary(challenger), *summary(~challenger))
        return ((tests.statistic > 0) & (tests.pvalue / 2 <= 0.05)).any()

    assert stopped(costs) <= 5
    assert sum(t_test_ever_stops(seed) for seed in range(60)) > 0.2 * 60


def test_hundred_thousand_values_overflow_nothing():
    challenger = np.arange(100_000) % 2 == 0
    worse = rollout.evidence(challenger, challenger.astype(float), share=0.5, limit=1)
    better = rollout.evidence(challenger, (~challenger).astype(float), share=0.5, limit=1)
    assert np.isfinite(worse.e_values).all()
    assert worse.e_value > 1e300
    assert better.e_value < 20


@pytest.mark.parametrize(
    ("challenger", "values", "share", "limit", "error"),
    [
        ([True], [1.0], 0.5, 0, "expected a positive, finite limit"),
        ([True], [1.0, 2.0], 0.5, 9, "take them from one frame"),
        ([True], [1.0], [0.5, 0.5], 9, "take them from one frame"),
        ([1], [1.0], 0.5, 9, "convert with astype"),
        ([True, False], [1.0, 10.0], 0.5, 9, "from 0 to 9, got 10 at position 1"),
        ([True], [-1.0], 0.5, 9, "from 0 to 9, got -1"),
        ([True], [np.nan], 0.5, 9, "leave out what has no value yet"),
        ([True], [1.0], 1.0, 9, "there is nothing to compare"),
        ([False], [1.0], [0.0], 9, "there is nothing to compare"),
    ],
)
def test_values_that_are_no_evidence_are_refused(challenger, values, share, limit, error):
    with pytest.raises((TypeError, ValueError), match=error):
        rollout.evidence(np.array(challenger), np.array(values), share=share, limit=limit)


# What to do -----------------------------------------------------------------------------------------------------------


def judge(answered, labelled, share=0.1, plan=PLAN):
    return rollout.judge(answered, labelled, plan=plan, share=share)


@pytest.mark.parametrize(
    ("answered", "labelled", "measure"),
    [
        (answers(1000, failing=0.1), labels(500), "failures"),
        (answers(1000, slow=0.3), labels(500), "slow answers"),
        (answers(1000), labels(1500, factor=4), "cost"),
    ],
    ids=["failures", "slow", "cost"],
)
def test_a_worse_challenger_is_stopped_for_what_it_does_worse(answered, labelled, measure):
    verdict = judge(answered, labelled)
    worst = verdict.measures.loc[measure]
    assert (verdict.action, verdict.share) == ("stop", 0.0)
    assert verdict.reason.startswith(f"challenger worse in {measure}: mean {worst['challenger_mean']:.4g} against")
    assert (
        verdict.measures["e_value"].ge(verdict.measures["bar"]).tolist() == (verdict.measures.index == measure).tolist()
    )


@pytest.mark.parametrize(("share", "enough"), [(0.1, 4), (0.5, 15)])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_few_failures_are_enough_when_the_champion_never_fails(share, enough, missing):
    answered = answers(2000, share=share)
    last = answered.index[answered["challenger"]][-(enough - missing) :]
    answered.loc[last, "failed"] = True
    assert (judge(answered, labels(0), share=share).measures.loc["failures", "e_value"] >= PLAN.bar) == (not missing)


@pytest.mark.parametrize(("share", "next_share"), [(0.1, 0.25), (0.25, 0.5), (0.05, 0.1), (0.3, 0.5)])
def test_enough_answers_without_harm_raise_the_share_to_the_next_step(share, next_share):
    verdict = judge(answers(600, share=share), labels(300, share=share), share=share)
    assert (verdict.action, verdict.share) == ("raise", next_share)


def test_at_the_last_step_a_person_is_awaited():
    verdict = judge(answers(600, share=0.5), labels(300, share=0.5), share=0.5)
    assert (verdict.action, verdict.share) == ("hold", 0.5)
    assert "awaits promotion by a person" in verdict.reason


@pytest.mark.parametrize(("given", "action"), [(19, "hold"), (20, "raise")])
def test_only_answers_of_the_challenger_at_the_present_share_count_towards_the_step(given, action):
    before = answers(500, share=0.1)
    now = answers(1000, share=0.25).sort_values("challenger", ascending=False, kind="stable")
    now = pd.concat([now.head(given), now.tail(5)])
    verdict = judge(pd.concat([before, now]), labels(0), share=0.25)
    assert verdict.action == action
    assert f"{given} answers of the challenger at share 0.25" in verdict.reason


@pytest.mark.parametrize("empty", [pd.DataFrame(), answers(0)], ids=["no columns", "no rows"])
def test_without_answers_and_labels_the_canary_is_held(empty):
    verdict = judge(empty, empty)
    assert (verdict.action, verdict.share) == ("hold", 0.1)
    assert verdict.measures["e_value"].tolist() == [1.0, 1.0, 1.0]


@given(st.integers(0, 20), st.integers(0, 800), st.integers(0, 800))
@settings(max_examples=EXAMPLES)
def test_a_stop_stays_a_stop_whatever_comes_later(seed, more_answers, more_labels):
    answered, labelled = answers(300, seed=seed, failing=0.2), labels(300, seed=seed, factor=5)
    first = judge(answered, labelled)
    good = labels(more_labels, seed=seed + 1, factor=0)
    later = judge(pd.concat([answered, answers(more_answers, seed=seed)]), pd.concat([labelled, good]))
    assert (later.measures["e_value"] >= first.measures["e_value"] * (1 - 1e-9)).all()
    assert first.action != "stop" or later.action == "stop"


def test_alpha_is_split_evenly_over_the_three_measures():
    assert judge(answers(0), labels(0)).measures["bar"].tolist() == pytest.approx([3 / 0.05] * 3)


def test_judging_changes_no_frame():
    answered, labelled = answers(100), labels(100)
    before = answered.copy(), labelled.copy()
    judge(answered, labelled)
    pd.testing.assert_frame_equal(answered, before[0])
    pd.testing.assert_frame_equal(labelled, before[1])


@pytest.mark.parametrize(
    ("answered", "labelled", "share", "error"),
    [
        (answers(5).drop(columns="share"), labels(5), 0.1, r"answers: .* none called \['share'\]; add them"),
        (answers(5), labels(5).drop(columns="cost"), 0.1, r"labels: .* none called \['cost'\]; add them"),
        (answers(5).astype({"failed": int}), labels(5), 0.1, "answers.failed: expected bool, got int64"),
        (answers(5).assign(latency_ms=np.nan), labels(5), 0.1, "latency_ms: expected 0 or more"),
        (answers(5), labels(5).assign(cost=61.0), 0.1, "from 0 to 60, got 61 at position 0"),
        (answers(5), labels(5), 0.0, "begin at 0.1"),
        (answers(5), labels(5), 1.0, "begin at 0.1"),
    ],
)
def test_frames_that_cannot_be_judged_are_refused(answered, labelled, share, error):
    with pytest.raises((TypeError, ValueError), match=error):
        judge(answered, labelled, share=share)


@pytest.mark.parametrize(
    "field",
    [
        {"steps": ()},
        {"steps": (0.5, 0.1)},
        {"steps": (0.1, 1.0)},
        {"steps": (0.0, 0.5)},
        {"answers_per_step": 0},
        {"answers_per_step": 2.5},
        {"max_latency_ms": 0},
        {"max_cost": float("inf")},
        {"alpha": 0},
        {"alpha": 5},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_names_its_field(field):
    (name,) = field
    with pytest.raises(ValueError, match=f"{name}: expected"):
        rollout.CanaryPlan(**{"max_latency_ms": 200, "max_cost": 60} | field)
