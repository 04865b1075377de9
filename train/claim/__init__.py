"""`maskrobust claim`: train several arms, measure how far each relies on outlines, and decide by a fixed rule."""

import time
from collections.abc import Sequence

from rich.console import Console

from maskrobust.augment.batch import check_all_known, first_images
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.reliance.measurement import under_methods
from maskrobust.train.claim.arms import new_network
from maskrobust.train.claim.checks import parse_config
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.runs import MeasuredRun, make_runs, measured_run, refuse_foreign
from maskrobust.train.claim.summary import summarise
from maskrobust.train.claim.verdict import known_before
from maskrobust.train.fit import quiet_lightning
from maskrobust.train.report.examples import draw_examples
from maskrobust.train.report.pages import render_claim
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.running.progress import ClaimProgress
from maskrobust.train.storage.files import check_folder, write_json, write_text


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust claim` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(list(arguments[1:]))
    check_folder(config.out)
    console = Console()
    quiet_lightning()
    runs = run_claim(config, console)
    if runs is None:
        return
    results = summarise(config, runs, seconds=time.monotonic() - start)
    write_json(config.out / "claim.json", results.as_json())
    evaluation, look = config.evaluation, Preprocessing(mean=config.data.mean)
    shown = draw_examples(config.data, evaluation.split, evaluation.plan, evaluation.seed, evaluation.methods, look)
    write_text(config.out / "report.html", render_claim(results, shown))
    console.print(results_table(results))
    console.print(verdict_panel(results))
    written = f"numbers: {config.out / 'claim.json'}\nreport:  {config.out / 'report.html'}"
    console.print(written, markup=False, soft_wrap=True)


def run_claim(config: ClaimConfig, console: Console) -> dict[str, dict[int, MeasuredRun]] | None:
    """Train and measure whatever is not on disk yet, and is not being made by another process.

    Args:
        config: the claim.
        console: the console that shows progress.

    Returns:
        Runs by arm and seed; None, after a line that says so, where other processes are making runs still: the last of
        them finds all there.

    Raises:
        InputError: the folder holds runs of another configuration, a network lacks what it is asked for, or images have
            pixels without data.
    """
    refuse_foreign(config)
    config.data.prepare_data()
    config.data.setup("fit")
    config.data.setup_split(config.evaluation.split)
    for arm in config.arms:  # refuses, before anything is trained, what a network cannot be asked once it is
        under_methods({arm: new_network(config, arm, config.seeds[0]).trained_network(arm)}, config.plans_of(arm))
    for split in dict.fromkeys(("train", "val", config.evaluation.split)):
        for batch in first_images(config.data.whole_split(split), 1):
            check_all_known(batch, "claim")
    for sentence in known_before(config):
        console.print(sentence, markup=False)
    with ClaimProgress(console, runs=len(config.arms) * len(config.seeds)) as progress:
        if missing := make_runs(config, progress):
            console.print(
                f"runs left to other processes: {missing}; the last of these writes the report, and where one was "
                "killed, run the same command again."
            )
            return None
    return {arm: {seed: measured_run(config, arm, seed) for seed in config.seeds} for arm in config.arms}
