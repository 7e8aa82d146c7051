"""The package behind the MLOps Course notebooks: one module a stage, from specification to retraining.

    design → data → validation → features → training → evaluation → registry → serving

A stage imports no sibling, so each file can be copied into another project and works there. `pipeline` composes the
stages into a training run, `lifecycle` into a release, and `cli` is the command line. `flights` is the running case,
the only folder that knows about flights.
"""

__version__ = "0.1.0"
