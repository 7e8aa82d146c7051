"""Decide whether to train anew, and not because the calendar says so or a feed is broken."""

from mlops_course.operations.retraining import POLICIES, State

limits = {"psi_alert": 0.25, "max_log_loss_rise": 0.02, "max_age_days": 90, "cooldown_days": 28, "min_new_rows": 1_000}
worse = State(age_days=35, cooldown_days=35, new_rows=4_000, new_batches=1, realised_rise=0.05)
decision = POLICIES["combined"](worse, limits)
print(decision.retrain, "because", decision.reason)
assert decision.retrain
