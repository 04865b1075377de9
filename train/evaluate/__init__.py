"""`maskrobust evaluate`: measure accuracy with parts hidden, and reliance on outlines, of trained networks."""

import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console

from maskrobust.train.command_line import next_prediction
from maskrobust.train.evaluate.config import EvaluationConfig, parse_config
from maskrobust.train.running.progress import CountingDisplay, stage
from maskrobust.train.storage.files import check_folder, write_json, write_text


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust evaluate` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.evaluate.kept import KEPT
    from maskrobust.train.evaluate.measure import ask, load
    from maskrobust.train.evaluate.pixels import ask_about_pixels, summarise_pixels
    from maskrobust.train.evaluate.summary import predictions_csv, summarise
    from maskrobust.train.report.headline import said
    from maskrobust.train.report.pages import render_reliance
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
            answered: Any = (ask_about_pixels if config.of_pixels else ask)(config, networks, progress)
            if answered is None:
                return
            seconds = time.monotonic() - start
            with stage(progress, "computing intervals"):
                own = {name: each.own_method for name, each in networks.items() if each.own_method}
                results = (summarise_pixels if config.of_pixels else summarise)(config, answered, own, seconds=seconds)
        pictures: Any = ([],) if config.of_pixels else _pictures(config, networks, answered)
        write_json(config.out / "reliance.json", results.as_json())
        write_text(config.out / "reliance.csv", results.csv)
        write_text(config.out / "report.html", render_reliance(results, *pictures))
        if config.predictions:
            sample_name = functools.partial(data.sample_name, config.split)
            predictions = predictions_csv(answered.runs, config.plan.hidden_fractions, data.class_names, sample_name)
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


def _pictures(config: EvaluationConfig, networks: Mapping[str, Any], answered: Any) -> tuple[Any, Any]:
    """Examples of holes, and images with exchanged holes, of networks that classify images."""
    from maskrobust.train.report.examples import draw_examples
    from maskrobust.train.report.exchanged import draw_exchanged

    look = networks[next(iter(answered.runs))].preprocessing
    examples = draw_examples(config.data, config.split, config.plan, config.seed, config.methods, look)
    return examples, draw_exchanged(config.data, config.split, answered.runs, answered.own, look, config.seed)
