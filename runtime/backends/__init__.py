"""Backends: what runs the graph, one file for each."""
