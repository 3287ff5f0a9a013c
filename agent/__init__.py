"""The training-completion agent: publish the model, prove it, tell the truth about it."""

__version__ = "0.1.0"
