"""Lightning callbacks."""

from lm_modules.callbacks.reliance import RelianceCallback
from lm_modules.callbacks.shown_images import ShownImages
from lm_modules.callbacks.throughput import Throughput

__all__ = ["RelianceCallback", "ShownImages", "Throughput"]
