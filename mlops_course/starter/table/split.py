"""The shares of a training's split, which is tried here first."""

TEST_SHARE, CALIBRATE_SHARE, FOLDS = 0.15, 0.12, 4  # as in `system.pipeline.steps`
