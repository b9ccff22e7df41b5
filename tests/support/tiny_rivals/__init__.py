"""Rivals for tests, which need numpy alone."""
