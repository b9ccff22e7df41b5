"""The runtime: scores frames with an exported model, without PyTorch and without onnx.

from adae_edge.runtime import Scorer

scorer = Scorer("model.onnx")
scores = scorer.score(frames)
"""

from adae_edge.runtime.scorer import Scorer

__all__ = ["Scorer"]
