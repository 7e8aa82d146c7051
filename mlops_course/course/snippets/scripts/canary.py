"""Stop a bad canary by a test that may be looked at as often as one likes."""

import numpy as np

from mlops_course.operations.deployment import rollout

random = np.random.default_rng(0)
ids = [f"request-{number}" for number in range(4_000)]
challenger = rollout.in_share(ids, 0.2, salt="canary-1")  # by a hash: the same request, the same version
cost = random.exponential(5.0, 4_000) * np.where(challenger, 1.6, 1.0)
found = rollout.evidence(challenger, np.minimum(cost, 60.0), share=0.2, limit=60.0)
plan = rollout.CanaryPlan(max_latency_ms=200, max_cost=60.0)
stop = bool(found.e_value >= plan.bar)
print("challenger gets", int(challenger.sum()), "of", len(ids), "| stop it:", stop)
assert stop
