"""Training: data sets, losses, the training loop, calibration and evaluation. Needs the [train] extra."""
