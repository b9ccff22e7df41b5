"""Data sets: opening them, and the split into training, calibration and test."""
