"""Probes of the model and how it came about."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlops_course.development import evaluation, gate, training
from mlops_course.system.scoring import error_costs

from .subject import DRAWS, SURE, Subject, _demand, _log_loss

SPEARMAN = 0.9  # offline and online must rank degraded models alike so closely
SETTINGS: Mapping[str, Mapping[str, list[float]]] = {  # what a search tries around the settings in use
    "logistic_regression": {"classify__C": [0.03, 0.3, 3.0, 30.0]},
    "gradient_boosting": {"classify__learning_rate": [0.03, 0.1, 0.2], "classify__max_leaf_nodes": [7, 15, 31]},
}


def reviewed(it: Subject) -> str:
    """The champion was released by somebody for a reason, to the specification in force, and the record is intact."""
    history = it.system.registry.history()
    steps = history[history["in_effect"] & (history["version"] == it.model.version)]
    _demand(len(steps) > 0, "the champion was never released: promote it, so that somebody answers for it")
    chain = it.system.registry.verify_history()
    _demand(chain.intact, f"the history was edited: {chain.defect}")
    asked, now = it.model.contract.specification, it.system.specification.model_dump(mode="json")
    changed = [name for name in now if asked.get(name) != now[name]]
    _demand(
        not changed,
        f"trained to specification {asked.get('version')}, in force is {now['version']}; changed since: "
        f"{', '.join(changed)}: train and review a version to it",
    )
    step = steps.iloc[-1]
    return (
        f"release {step.name}: {step['event']} by {step['approver']}; specification {now['version']}; {chain.head[:20]}"
    )


def offline_online(it: Subject) -> str:
    """Offline and online agree: of models made worse and worse, log loss offline and cost online rank alike."""
    from scipy.stats import spearmanr

    rng, live = np.random.default_rng(it.seed), it.labelled
    threshold, losses, costs = it.model.contract.threshold, [], []
    y, orders = it.test[it.target], [rng.permutation(len(it.test)), rng.permutation(len(live))]
    draws = [rng.random(len(it.test)), rng.random(len(live))]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        offline = np.where(draws[0] < share, it.probability[orders[0]], it.probability)
        online = np.where(draws[1] < share, live["probability"].to_numpy()[orders[1]], live["probability"])
        losses.append(_log_loss(y, offline).mean())
        costs.append(error_costs(live.assign(decision=online >= threshold), it.system.specification).mean())
    rank = spearmanr(losses, costs).statistic
    _demand(rank >= SPEARMAN, f"log loss offline and cost online rank six degraded models with {rank:.2f} only")
    return f"rank correlation {rank:.2f}; online cost {costs[0]:.2f} as served, {costs[-1]:.2f} with answers shuffled"


def tuned(it: Subject) -> str:
    """Settings are tuned: a search in time order finds none that is better by more than chance."""
    kind = it.run.data.tags.get("chosen_model", "")
    _demand(
        kind in SETTINGS, f"the champion is {kind or 'of no recorded kind'}, for which there are no settings to try"
    )
    times = it.system.specification.timing
    folds = training.TimeFolds(3, prediction_time=it.more[times.prediction_time], label_time=it.more[times.label_time])
    rows, y, model = it.more[it.inputs], it.more[it.target], it.candidates()[kind]
    found = training.search(model, SETTINGS[kind], inputs=rows, target=y, folds=folds, draws=3, seed=it.seed)
    folded = [found.cv_results_[f"split{fold}_test_score"][found.best_index_] for fold in range(3)]
    best = -pd.Series(folded)
    ours = training.cross_validate_in_time(it.candidates()[kind], rows, target=y, folds=folds)["log_loss"]
    worse = ours - best
    limit = it.system.specification.gates.model_dump()["noninferiority_margin"] + SURE * worse.sem()
    _demand(worse.mean() <= limit, f"{found.best_params_} is better by {worse.mean():.4f}: search and train anew")
    return f"{kind}: log loss {ours.mean():.4f}, best of 3 others {best.mean():.4f} over {len(ours)} folds"


def staleness_known(it: Subject) -> str:
    """What age costs is known: a model frozen early is followed over later periods, and a decayed one is seen."""
    times = it.system.specification.timing.prediction_time
    rows = pd.concat([it.train, it.test]).sort_values(times, ignore_index=True)
    cut = int(len(rows) * 0.4)
    frozen = it.candidates()["logistic_regression"].fit(rows[it.inputs][:cut], rows[it.target][:cut])
    later = rows[cut:].assign(period=pd.cut(rows[times][cut:].astype("int64"), 4, labels=range(4)).astype(int))
    later["probability"] = frozen.predict_proba(later[it.inputs])[:, 1]
    _demand(later["period"].nunique() >= 3, "the champion's rows span fewer than three periods: train on more batches")
    costs = it.system.specification.costs
    ask = {"target": it.target, "probability": "probability", "threshold": it.model.contract.threshold}
    ask |= {"false_alarm": costs.false_alarm, "missed": costs.missed, "seed": it.seed, "draws": 20}
    curve = evaluation.staleness_curve(later, "period", **ask)["log_loss"]
    last = later["period"] == later["period"].max()
    turned = later.assign(probability=later["probability"].mask(last, 1 - later["probability"]))
    flipped = evaluation.staleness_curve(turned, "period", **ask)["log_loss"]
    bar = it.system.specification.retraining.max_log_loss_rise
    _demand(flipped.iloc[-1] - curve.iloc[-1] > bar, "a model that decayed in the last period is not seen")
    span = rows[times].max() - rows[times][cut]
    return (
        f"frozen for {span.days} days: log loss {', '.join(f'{value:.3f}' for value in curve)} (bar: a rise of {bar})"
    )


def not_simpler(it: Subject) -> str:
    """No simpler model is better on the test rows."""
    y, ours = it.test[it.target], _log_loss(it.test[it.target], it.probability)
    told = []
    for kind in ("base_rate", "logistic_regression"):
        simple = it.candidates()[kind].fit(it.train[it.inputs], it.train[it.target])
        gain = _log_loss(y, simple.predict_proba(it.test[it.inputs])[:, 1]) - ours
        error = gain.std() / math.sqrt(len(gain))
        told.append(f"{kind.replace('_', ' ')} {gain.mean():+.4f}")
        least = 0.0 if kind == "base_rate" else -SURE * error
        _demand(gain.mean() > least, f"{kind} has a log loss lower by {-gain.mean():.4f}: use it, or find out why")
    return f"log loss {ours.mean():.4f} on {len(y):,} rows; more with {', '.join(told)}"


def slices_sound(it: Subject) -> str:
    """No slice is far below the whole, and one whose answers are turned round is noticed."""
    spec, rows = it.system.specification, it.parts["test"]
    scores = it.predict(rows)
    names = list(spec.slices)
    sizes = rows[names[0]].value_counts()
    _demand(sizes.max() >= spec.gates.min_slice_rows, "no slice has enough rows to be judged: train on more batches")
    worst = (rows[names[0]] == sizes.index[0]).to_numpy()
    turned = np.where(worst, 1 - scores, scores)
    bars = {name: spec.gates.model_dump()[name] for name in ("max_slice_auc_drop", "min_slice_rows")}
    costs = {"threshold": it.model.contract.threshold, "false_alarm": spec.costs.false_alarm}
    costs |= {"missed": spec.costs.missed, "min_rows": spec.gates.min_slice_rows, "seed": it.seed, "draws": DRAWS}
    fair, unfair = (
        gate.gate(evaluation.evidence(rows[it.target], p, slices=rows[names], **costs), bars) for p in (scores, turned)
    )
    _demand(fair.passed, f"slices that are served worse: {'; '.join(fair.reasons)}")
    _demand(not unfair.passed, f"{names[0]} {sizes.index[0]} with answers turned round went through")
    judged = (fair.checks["verdict"] == "pass").sum()
    return f"{judged} slices of {', '.join(names)} are sound; {names[0]} {sizes.index[0]} turned round was refused"


def inclusion(it: Subject) -> str:
    """Nobody's risk is systematically over- or understated, by any slice; and the assessment of risk is on record."""
    spec = it.system.specification
    rows = it.parts["test"].assign(p=it.predict(it.parts["test"]))
    bar = spec.monitoring.max_rate_gap

    def wronged(rows: pd.DataFrame) -> list[str]:
        found = []
        for name in spec.slices:
            for value, part in rows.groupby(name, observed=True):
                gap = part["p"] - part[it.target]
                sure = abs(gap.mean()) - SURE * gap.std() / math.sqrt(len(part))
                if len(part) >= spec.gates.min_slice_rows and sure > bar:
                    found.append(f"{name} {value} by {gap.mean():+.2f}")
        return found

    _demand(not wronged(rows), f"risk is misstated by more than {bar}: {', '.join(wronged(rows))}")
    shifted = rows.assign(
        p=(rows["p"] + 2 * bar).where(rows[spec.slices[0]] == rows[spec.slices[0]].mode()[0], rows["p"])
    )
    _demand(bool(wronged(shifted)), f"a slice whose risk is overstated by {2 * bar} is not noticed: too few rows")
    _demand(bool(spec.risk.basis), "the specification does not say on what its assessment of risk rests")
    risk = f"risk {spec.risk.level} as of {spec.risk.as_of}"
    return f"no slice is off by more than {bar}; one shifted by {2 * bar} is noticed; {risk}"
