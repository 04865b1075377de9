"""Lightning callbacks: checkpoints, logs, and measures and explanations during training."""

from maskrobust.lm_modules.callbacks.classes import ClassAnswers as ClassAnswers
from maskrobust.lm_modules.callbacks.holes_tell import HolesTell as HolesTell
from maskrobust.lm_modules.callbacks.last_checkpoint import LastCheckpoint as LastCheckpoint
from maskrobust.lm_modules.callbacks.reliance import RelianceCallback as RelianceCallback
from maskrobust.lm_modules.callbacks.training import (
    FiniteLoss as FiniteLoss,
    LogEachEpoch as LogEachEpoch,
    Reconstructions as Reconstructions,
    Segmentations as Segmentations,
    ShownImages as ShownImages,
    StepSeed as StepSeed,
)
