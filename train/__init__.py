"""Training: data sets, losses, the loop, calibration and evaluation. Needs the [train] extra."""
