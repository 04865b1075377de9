"""The runs of a claim in Weights & Biases: one for each network that is trained, all in one group."""

from dataclasses import replace

from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.runs import StoredRun
from maskrobust.train.loggers import WandbRun, log_configuration


def wandb_runs(config: ClaimConfig, run: StoredRun) -> list[WandbRun]:
    """The W&B run that an arm's training logs to, named after arm and seed; none where the claim asks for none.

    Its group is the name of the claim's folder, unless the options say another; its configuration what this training
    follows from.

    Args:
        config: the claim.
        run: that is about to be trained.

    Raises:
        InputError: W&B cannot be reached, or does not take the run.
    """
    if config.wandb is None:
        return []
    group = config.wandb.group or config.out.resolve().name
    tracked = [WandbRun(f"{run.arm} seed {run.seed}", config.out, replace(config.wandb, group=group))]
    configuration = {
        "question": config.question,
        "arm": run.arm,
        "seed": run.seed,
        "data": config.content["data"],
        "model": config.models[run.arm],
        "training": config.content["training"],
    }
    log_configuration(tracked, configuration)
    return tracked
