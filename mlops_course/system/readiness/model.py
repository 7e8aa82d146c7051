"""Probes of the model and its training: section Model of the ML Test Score."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlops_course.development import evaluation, gate, training
from mlops_course.system.scoring import error_costs

from .system_under_test import STANDARD_ERRORS, SystemUnderTest, _require

SEARCH_ROWS = 10_000  # on which settings are searched: those that suit few rows do not suit many
MIN_RANK = 0.9  # between the offline and the online order of models that get worse
SETTINGS_TO_TRY: Mapping[str, Mapping[str, list[float]]] = {
    "logistic_regression": {"classify__C": [0.03, 0.3, 3.0, 30.0]},
    "gradient_boosting": {"classify__learning_rate": [0.03, 0.1, 0.2], "classify__max_leaf_nodes": [7, 15, 31]},
}


def specification_review(tested: SystemUnderTest) -> str:
    """Model 1: specification and release are reviewed. Somebody approved the champion, and the record is intact."""
    history = tested.system.registry.history()
    steps = history[history["in_effect"] & (history["version"] == tested.model.version)]
    _require(len(steps) > 0, "the champion was never released: promote it, so that somebody is responsible for it")
    chain = tested.system.verify_history()
    _require(chain.intact, f"the history was edited: {chain.defect}")
    then, now = tested.model.contract.specification, tested.system.specification.model_dump(mode="json")
    changed = [name for name in now if then.get(name) != now[name]]
    versions = f"trained to specification {then.get('version')}, in force is {now['version']}"
    _require(not changed, f"{versions}; changed since: {', '.join(changed)}: train and review a version to it")
    step, in_force = steps.iloc[-1], f"specification {now['version']}"
    return f"release {step.name}: {step['event']} by {step['approver']}; {in_force}; {chain.head[:20]}"


def offline_online_correlation(tested: SystemUnderTest) -> str:
    """Model 2: offline and online metrics correlate. Log loss and live cost put models that get worse in one order."""
    from scipy.stats import spearmanr

    rng, live = np.random.default_rng(tested.seed), tested.labelled
    threshold, losses, costs = tested.model.contract.threshold, [], []
    y, orders = tested.test[tested.target], [rng.permutation(len(tested.test)), rng.permutation(len(live))]
    draws = [rng.random(len(tested.test)), rng.random(len(live))]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):  # of probabilities that are those of another row
        offline = np.where(draws[0] < share, tested.probability[orders[0]], tested.probability)
        online = np.where(draws[1] < share, live["probability"].to_numpy()[orders[1]], live["probability"])
        losses.append(evaluation.log_losses(y, offline).mean())
        costs.append(error_costs(live.assign(decision=online >= threshold), tested.system.specification).mean())
    rank = spearmanr(losses, costs).statistic
    _require(rank >= MIN_RANK, f"log loss offline and cost online rank six degraded models with {rank:.2f} only")
    return f"rank correlation {rank:.2f}; online cost {costs[0]:.2f} as served, {costs[-1]:.2f} with answers shuffled"


def tuned_settings(tested: SystemUnderTest) -> str:
    """Model 3: hyperparameters are tuned. A search in time order finds none that are better by more than chance."""
    kind = tested.kind
    _require(kind in SETTINGS_TO_TRY, f"there are no settings to try for a champion {kind or 'of no recorded kind'}")
    rows, times = tested.sample("train", SEARCH_ROWS), tested.system.specification.timing
    folds = training.TimeFolds(3, prediction_time=rows[times.prediction_time], label_time=rows[times.label_time])
    inputs, y, model = rows[tested.inputs], rows[tested.target], tested.candidates()[kind]
    given = {"inputs": inputs, "target": y, "folds": folds}
    found = training.search(model, SETTINGS_TO_TRY[kind], **given, draws=3, seed=tested.seed)
    best = pd.Series([-found.cv_results_[f"split{fold}_test_score"][found.best_index_] for fold in range(3)])
    ours = training.cross_validate_in_time(model, inputs, target=y, folds=folds)["log_loss"]
    gap = ours - best
    limit = tested.system.specification.gates.tolerated_loss + STANDARD_ERRORS * gap.sem()
    _require(gap.mean() <= limit, f"{found.best_params_} is better by {gap.mean():.4f}: search and train a new version")
    return f"{kind}: log loss {ours.mean():.4f}, best of 3 others {best.mean():.4f} over {len(ours)} folds"


def staleness_cost(tested: SystemUnderTest) -> str:
    """Model 4: the impact of staleness is known. A frozen model is followed for some periods, and its decay shows."""
    spec, times = tested.system.specification, tested.system.specification.timing.prediction_time
    rows = pd.concat([tested.train, tested.test]).sort_values(times, ignore_index=True)
    cut = int(len(rows) * 0.4)
    frozen = tested.candidates()["logistic_regression"].fit(rows[tested.inputs][:cut], rows[tested.target][:cut])
    later = rows[cut:].assign(period=pd.cut(rows[times][cut:].astype("int64"), 4, labels=range(4)).astype(int))
    later["probability"] = frozen.predict_proba(later[tested.inputs])[:, 1]
    _require(later["period"].nunique() >= 3, "the champion's rows span fewer than three periods: train on more batches")

    def losses(probability: pd.Series) -> pd.Series:
        of_rows = pd.Series(evaluation.log_losses(later[tested.target], probability), later.index)
        return of_rows.groupby(later["period"]).mean()

    curve, last = losses(later["probability"]), later["period"] == later["period"].max()
    decayed = losses(later["probability"].mask(last, 1 - later["probability"]))
    bar = spec.retraining.max_log_loss_rise
    _require(decayed.iloc[-1] - curve.iloc[-1] > bar, "a model that decayed in the last period is not seen")
    days, shown = (rows[times].max() - rows[times][cut]).days, ", ".join(f"{value:.3f}" for value in curve)
    return f"frozen for {days} days: log loss {shown} (bar: a rise of {bar})"


def simpler_models(tested: SystemUnderTest) -> str:
    """Model 5: a simpler model is not better. The base rate and a logistic regression try on the test rows."""
    y = tested.test[tested.target]
    ours = evaluation.log_losses(y, tested.probability)
    told = []
    for kind in ("base_rate", "logistic_regression"):
        simple = tested.candidates()[kind].fit(tested.train[tested.inputs], tested.train[tested.target])
        gain = evaluation.log_losses(y, simple.predict_proba(tested.test[tested.inputs])[:, 1]) - ours
        told.append(f"{kind.replace('_', ' ')} {gain.mean():+.4f}")
        least = 0.0 if kind == "base_rate" else -STANDARD_ERRORS * gain.std() / math.sqrt(len(gain))
        _require(gain.mean() > least, f"{kind} has a log loss lower by {-gain.mean():.4f}: use it, or find out why")
    return f"log loss {ours.mean():.4f} on {len(y):,} rows; more with {', '.join(told)}"


def slice_quality(tested: SystemUnderTest) -> str:
    """Model 6: quality is sufficient on slices. The gate passes them all, and refuses one with reversed predictions."""
    spec, rows = tested.system.specification, tested.parts["test"]
    scores, names = tested.predict(rows), list(spec.slices)
    sizes = rows[names[0]].value_counts()
    _require(sizes.max() >= spec.gates.min_slice_rows, "no slice has enough rows to be judged: train on more batches")
    reversed_in_one = np.where(rows[names[0]] == sizes.index[0], 1 - scores, scores)
    bars = {name: spec.gates.model_dump()[name] for name in ("max_slice_auc_drop", "min_slice_rows")}
    sound, unsound = (
        gate.gate(evaluation.evidence(rows[tested.target], p, **tested.measurement(rows)), bars)
        for p in (scores, reversed_in_one)
    )
    _require(sound.passed, f"slices that are served worse: {'; '.join(sound.reasons)}")
    _require(not unsound.passed, f"{names[0]} {sizes.index[0]} with answers turned round went through")
    found = sound.checks["verdict"].value_counts()
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
    return f"slices of {', '.join(names)}: {counts}, none fails; {names[0]} {sizes.index[0]} turned round was refused"


def inclusion(tested: SystemUnderTest) -> str:
    """Model 7: inclusion is considered. No slice's risk is misstated, and the specification assesses the risk."""
    spec = tested.system.specification
    rows = tested.parts["test"].assign(p=tested.predict(tested.parts["test"]))
    bar, first = spec.monitoring.max_rate_gap, spec.slices[0]

    def misstated(rows: pd.DataFrame) -> list[str]:
        found = []
        for name in spec.slices:
            for value, part in rows.groupby(name, observed=True):
                gap = part["p"] - part[tested.target]
                at_least = abs(gap.mean()) - STANDARD_ERRORS * gap.std() / math.sqrt(len(part))
                if len(part) >= spec.gates.min_slice_rows and at_least > bar:
                    found.append(f"{name} {value} by {gap.mean():+.2f}")
        return found

    wrong = misstated(rows)
    _require(not wrong, f"risk is misstated by more than {bar}: {', '.join(wrong)}")
    shifted = rows.assign(p=rows["p"].mask(rows[first] == rows[first].mode()[0], rows["p"] + 2 * bar))
    _require(bool(misstated(shifted)), f"a slice whose risk is overstated by {2 * bar} is not noticed: too few rows")
    _require(bool(spec.risk.basis), "the specification does not say on what its assessment of risk rests")
    risk = f"risk {spec.risk.level} as of {spec.risk.as_of}"
    return f"no slice is off by more than {bar}; one shifted by {2 * bar} is noticed; {risk}"
