"""`maskrobust evaluate`: measure accuracy with parts hidden, and reliance on outlines, of trained networks."""

import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from maskrobust.train.command_line import next_prediction
from maskrobust.train.evaluate.config import EvaluationConfig, parse_config
from maskrobust.train.running.progress import CountingDisplay, stage
from maskrobust.train.storage.files import check_folder, write_json, write_text

if TYPE_CHECKING:  # which takes seconds
    from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
    from maskrobust.train.report.results import Results


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust evaluate` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.evaluate.kept import KEPT
    from maskrobust.train.evaluate.measure import load
    from maskrobust.train.report.headline import said
    from maskrobust.train.report.terminal import results_table
    from maskrobust.train.running.processes import first_of_each_machine_first, is_first, joined
    from maskrobust.train.running.tracking import begin_evaluation, log_evaluation

    check_folder(config.out)
    with ExitStack() as stack:
        stack.enter_context(joined())
        console, run = Console(quiet=not is_first()), None
        if config.wandb and is_first():
            run = stack.enter_context(begin_evaluation(config.wandb, config.network[0], config.out))
        with first_of_each_machine_first():
            networks, data = load(config), config.data
        with CountingDisplay(console) as progress:
            found = (_of_pixels if config.of_pixels else _of_images)(config, networks, progress, start)
        if found is None:
            return
        results, page, predictions = found
        write_json(config.out / "reliance.json", results.as_json())
        write_text(config.out / "reliance.csv", results.csv)
        write_text(config.out / "report.html", page)
        if predictions is not None:
            write_text(config.out / "predictions.csv", predictions)
        shutil.rmtree(config.out / KEPT, ignore_errors=True)
        if run is not None:
            log_evaluation(run, results, config.out / "report.html")
    first, *remarks = said(results)
    console.print(f"\n{first}\n", markup=False, highlight=False)
    console.print(results_table(results), markup=False)
    written = ["reliance.json", "reliance.csv", *["predictions.csv"] * config.predictions]
    numbers = ", ".join(str(config.out / name) for name in written)
    console.print(f"\nnumbers: {numbers}\nreport:  {config.out / 'report.html'}", markup=False, soft_wrap=True)
    console.print(*remarks, sep="\n", markup=False, highlight=False)
    new = config.out / ("new_predictions" if config.of_pixels else "new_predictions.csv")
    console.print(next_prediction(config.network[0], data, new), markup=False, highlight=False, soft_wrap=True)


def _of_images(
    config: EvaluationConfig, networks: "Mapping[str, TrainedNetwork]", progress: Progress, start: float
) -> "tuple[Results, str, str | None] | None":
    """What is found about networks that classify images, the page and predictions; None but on the first process."""
    from maskrobust.train.evaluate.measure import ask
    from maskrobust.train.evaluate.summary import predictions_csv, summarise
    from maskrobust.train.report.examples import draw_examples
    from maskrobust.train.report.exchanged import draw_exchanged
    from maskrobust.train.report.pages import render_reliance

    answered, data = ask(config, networks, progress), config.data
    if answered is None:
        return None
    seconds = time.monotonic() - start
    with stage(progress, "computing intervals"):
        results = summarise(config, answered, _own_methods(networks), seconds=seconds)
    look = networks[next(iter(answered.runs))].preprocessing
    examples = draw_examples(data, config.split, config.plan, config.seed, config.methods, look)
    exchanged = draw_exchanged(data, config.split, answered.runs, answered.own, look, config.seed)
    sample_name = functools.partial(data.sample_name, config.split)
    predictions = None
    if config.predictions:
        predictions = predictions_csv(answered.runs, config.plan.hidden_fractions, data.class_names, sample_name)
    return results, render_reliance(results, examples, exchanged), predictions


def _of_pixels(
    config: EvaluationConfig, networks: "Mapping[str, TrainedNetwork]", progress: Progress, start: float
) -> "tuple[Results, str, str | None] | None":
    """As `_of_images`, about networks that classify pixels, without predictions."""
    from maskrobust.train.evaluate.pixels import ask_about_pixels, summarise_pixels
    from maskrobust.train.report.pages import render_reliance

    counted = ask_about_pixels(config, networks, progress)
    if counted is None:
        return None
    seconds = time.monotonic() - start
    with stage(progress, "computing intervals"):
        results = summarise_pixels(config, counted, _own_methods(networks), seconds=seconds)
    return results, render_reliance(results, []), None


def _own_methods(networks: "Mapping[str, TrainedNetwork]") -> dict[str, str]:
    return {name: each.own_method for name, each in networks.items() if each.own_method}
