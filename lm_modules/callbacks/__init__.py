"""Lightning callbacks."""

from lm_modules.callbacks.reliance import RelianceCallback

__all__ = ["RelianceCallback"]
