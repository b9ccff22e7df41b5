"""adae-edge: image anomaly detection with Adversarial Dual Autoencoders, from training to the edge."""

__version__ = "0.1.0"
