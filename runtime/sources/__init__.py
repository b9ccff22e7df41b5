"""Sources of frames, one file for each kind, found by the registry."""
