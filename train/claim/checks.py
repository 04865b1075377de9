"""What a claim's configuration must not contradict, each as one sentence."""

from collections.abc import Mapping

from maskrobust.errors import InputError
from maskrobust.lm_modules.classifier_arguments import check_arguments
from maskrobust.lm_modules.methods import check_methods
from maskrobust.train.claim.config import MASK_OPTIONS, Arm, ClaimConfig

_FROM_DATA = {"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}  # stand-ins: data need not be there yet


def check_networks(arms: Mapping[str, Arm]) -> None:
    """Refuse arms that use a network which no arm trains, or that would have to train it anew.

    Raises:
        InputError: naming the arm and what to do.
    """
    training = [name for name, arm in arms.items() if arm.network_of is None]
    for name, arm in arms.items():
        if arm.network_of is None:
            if arm.calibration:
                raise InputError(
                    f"arm '{name}' has calibration true, so network_of must name the arm whose network is calibrated, "
                    "got none; name it, or leave calibration out."
                )
            continue
        if arm.network_of not in training:
            raise InputError(
                f"network_of of arm '{name}' must be an arm that trains a network of its own, one of "
                f"{', '.join(training)}, got '{arm.network_of}'; name one of them."
            )
        if arm.augmentation_only:
            raise InputError(
                f"arm '{name}' is augmentation_only, so it must train a network on masks, got network_of "
                f"'{arm.network_of}'; leave one of the two out."
            )
        options = MASK_OPTIONS if arm.calibration else ()
        further = [option for option in arm.model if option not in options]
        if further:
            raise InputError(
                f"arm '{name}' uses the network of '{arm.network_of}', so its model may say "
                f"{', '.join(options) or 'nothing'}, got {', '.join(further)}; leave that out."
            )


def check_part(config: ClaimConfig, *, is_named: bool) -> None:
    """Refuse to run a part that the claim does not have.

    Args:
        config: the claim.
        is_named: whether arms or seeds are named on the command line.

    Raises:
        InputError: naming the choices.
    """
    if config.collect and is_named:
        raise InputError("--collect joins all runs of the claim, got --arm or --seed beside it; leave these out.")
    for arm in config.only_arms:
        if arm not in config.arms:
            raise InputError(f"--arm must be one of {', '.join(config.arms)}, got '{arm}'; name one of them.")
    for seed in config.only_seeds:
        if seed not in config.seeds:
            raise InputError(
                f"--seed must be one of {', '.join(map(str, config.seeds))}, got {seed}; name one of them."
            )


def check(config: ClaimConfig) -> None:
    """Refuse sections that contradict each other or leave their ranges.

    Raises:
        InputError: naming what was given and what to do.
    """
    check_methods(config.evaluation.methods, "evaluation.methods")
    for name, model in config.models.items():
        try:
            check_arguments({**model, **_FROM_DATA})
        except InputError as error:
            raise InputError(f"arm '{name}' does not fit the model: {error}") from error
    _check_arms(config)
    seeds, training, evaluation = config.seeds, config.training, config.evaluation
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must be a list of different numbers, got {seeds}; give each once.")
    if training.epochs < 1:
        raise InputError(f"training.epochs must be at least 1, got {training.epochs}; raise it.")
    if not 0.0 < evaluation.hidden_fraction <= 1.0:
        raise InputError(
            f"evaluation.hidden_fraction must lie in (0, 1], got {evaluation.hidden_fraction}; 0.5 is usual."
        )
    if config.wandb is not None and config.wandb.artifacts != "none":
        raise InputError(
            f"wandb.artifacts must be none, for a claim saves no checkpoints, got {config.wandb.artifacts}; leave it "
            "out."
        )
    for name in ("patch_size", "replicates"):
        if getattr(evaluation, name) < 1:
            raise InputError(f"evaluation.{name} must be at least 1, got {getattr(evaluation, name)}; raise it.")
    if not 0.0 < config.rule.confidence < 1.0:
        raise InputError(f"rule.confidence must lie between 0 and 1, got {config.rule.confidence}; 0.95 is usual.")


def _check_arms(config: ClaimConfig) -> None:
    arms, evaluation, rule = config.arms, config.evaluation, config.rule
    for role in ("baseline", "layer_masking_arm"):
        if getattr(rule, role) not in arms:
            raise InputError(
                f"rule.{role} must be one of the arms {', '.join(arms)}, got '{getattr(rule, role)}'; name one of them."
            )
    for name in arms:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(
                f"an arm's name must be letters, digits, '_' and '-' (it names a folder), got '{name}'; rename it, and "
                "say the rest in its title."
            )
    if rule.layer_masking_arm == rule.baseline or arms[rule.layer_masking_arm].augmentation_only:
        raise InputError(
            "rule.layer_masking_arm must be neither the baseline nor augmentation_only, got "
            f"'{rule.layer_masking_arm}'; name another arm."
        )
    if not any(arm.augmentation_only for arm in arms.values()):
        raise InputError(
            "arms must hold at least one with augmentation_only true, got none; mark those that the claim is about."
        )
    for name, arm in arms.items():
        if arm.augmentation_only and config.models[name]["masking"] != "fill":
            masking = config.models[name]["masking"]
            raise InputError(
                f"arm '{name}' is augmentation_only, so masking must be 'fill', got '{masking}'; correct one of them."
            )
    for part in ("margin", "clean_accuracy_tolerance"):
        if getattr(rule, part) < 0:
            raise InputError(f"rule.{part} must be at least 0, got {getattr(rule, part)}; raise it.")
    for name, arm in arms.items():
        if arm.method not in evaluation.methods:
            raise InputError(
                f"evaluation.methods must contain '{arm.method}', the method of arm '{name}', got "
                f"{', '.join(evaluation.methods)}; add it."
            )
