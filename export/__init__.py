"""The export: a checkpoint becomes one ONNX graph that returns the score.

It needs the extra ``export``; building engines needs TensorRT alone.
"""
