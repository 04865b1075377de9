"""`maskrobust evaluate`: how far trained networks read the outline of what is hidden from them, side by side."""

import functools
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from maskrobust.train.evaluate.config import parse_config
from maskrobust.train.running.progress import CountingDisplay, stage
from maskrobust.train.storage.files import check_folder, write_json, write_text

if TYPE_CHECKING:  # whose import takes seconds
    from maskrobust.train.report.results import Results


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust evaluate` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.evaluate.measure import ask, settings_of
    from maskrobust.train.evaluate.networks import answer_similarities, load
    from maskrobust.train.evaluate.predictions import predictions_csv
    from maskrobust.train.evaluate.summary import summarise
    from maskrobust.train.examples import evaluation_examples
    from maskrobust.train.report.headline import headline
    from maskrobust.train.report.pages import render_reliance
    from maskrobust.train.report.terminal import results_table
    from maskrobust.train.running.lock import locked
    from maskrobust.train.running.processes import first_of_each_machine_first, is_first, joined
    from maskrobust.train.storage.store import Store

    check_folder(config.out)
    with joined():
        console = Console(quiet=not is_first())
        with first_of_each_machine_first():
            networks, data = load(config)
        similarities = answer_similarities(config.wordnet, networks, data)
        store = Store(config.out / "partial", settings_of(config, networks))
        with locked(config.out):
            with CountingDisplay(console) as progress:
                answered = ask(config, networks, data, store, progress)
                if answered is None:
                    return
                seconds = time.monotonic() - start
                with stage(progress, "computing intervals"):
                    results = summarise(
                        config, data, answered, similarities, seconds=seconds, command=shlex.join(sys.argv)
                    )
            examples = evaluation_examples(config, data, answered.runs, networks)
            _write(config.out, results, render_reliance(results, examples))
            if config.predictions:
                names = data.class_names if data.num_classes else ()
                sample_name = functools.partial(data.sample_name, config.split)
                predictions = predictions_csv(answered.runs, config.plan.hidden_fractions, names, sample_name)
                write_text(config.out / "predictions.csv", predictions)
            store.remove()
    console.print(results_table(results), headline(results), sep="\n", markup=False)
    written = ["reliance.json", "reliance.csv", *["predictions.csv"] * config.predictions]
    numbers = ", ".join(str(config.out / name) for name in written)
    console.print(f"numbers: {numbers}\nreport:  {config.out / 'report.html'}", markup=False, soft_wrap=True)


def _write(folder: Path, results: "Results", page: str) -> None:
    write_json(folder / "reliance.json", results.as_json())
    write_text(folder / "reliance.csv", results.as_csv())
    write_text(folder / "report.html", page)
