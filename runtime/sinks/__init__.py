"""Sinks for results, one file for each kind, found by the registry."""
