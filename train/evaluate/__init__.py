"""`maskrobust evaluate`: how far trained networks read the outline of what is hidden from them, side by side."""

import shlex
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from maskrobust.train.evaluate.config import parse_config
from maskrobust.train.running.progress import counting_display
from maskrobust.train.storage.files import check_folder, write_json, write_text


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust evaluate` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.evaluate.measure import measure
    from maskrobust.train.evaluate.networks import answer_similarities, load_networks
    from maskrobust.train.evaluate.partial import Partial, settings_of
    from maskrobust.train.evaluate.summary import summarise
    from maskrobust.train.examples import evaluation_examples
    from maskrobust.train.report import Results, headline, render_reliance, results_table
    from maskrobust.train.running.lock import locked
    from maskrobust.train.running.processes import first_of_each_machine_first, is_first, joined

    check_folder(config.out)
    with joined():
        console = Console(quiet=not is_first())
        with first_of_each_machine_first():
            config, networks = load_networks(config)
        similarities = answer_similarities(config, networks)
        partial = Partial(config.out / "partial", settings_of(config, networks))
        with locked(config.out):
            partial.check()
            with counting_display(console) as progress:
                found = measure(config, networks, partial, progress)
            if found is None:
                return
            runs, probe = found
            reliance = summarise(
                config, runs, probe, similarities, seconds=time.monotonic() - start, command=shlex.join(sys.argv)
            )
            results = Results.read("reliance", reliance)
            page = render_reliance(reliance, evaluation_examples(config, runs, networks))
            write_json(config.out / "reliance.json", reliance)
            write_text(config.out / "reliance.csv", results.as_csv())
            write_text(config.out / "report.html", page)
            partial.remove()
    console.print(results_table("reliance", reliance), headline(results), sep="\n", markup=False)
    numbers = f"{config.out / 'reliance.json'}, {config.out / 'reliance.csv'}"
    console.print(f"numbers: {numbers}\nreport:  {config.out / 'report.html'}", markup=False, soft_wrap=True)
