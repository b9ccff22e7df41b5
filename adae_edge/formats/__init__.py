"""The files that stages meet in: checkpoints, model files and engines."""
