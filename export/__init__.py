"""The export: a checkpoint becomes one ONNX graph that returns the score. Needs the [export] extra."""
