"""The report section on how its numbers were made, with a file to download."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from maskrobust.train.report.blocks import block, download, facts, folded, html, prose
from maskrobust.train.report.results import Results


def machine_facts(content: Mapping[str, Any]) -> list[tuple[str, str | Markup]]:
    """Duration, machine and versions, of the `provenance` of any result."""
    found = content["provenance"]
    versions = f"maskrobust {found['maskrobust']}, torch {found['torch']}, Python {found['python']}"
    seconds = html('<span id="run-seconds">{{ seconds|duration }}</span>', seconds=found["seconds"])
    return [("Took", seconds), ("Machine", found["machine"]), ("Versions", versions)]


def command_line(command: str) -> Markup:
    """The command, to be copied."""
    return html('<pre id="command" tabindex="0"><code>{{ command }}</code></pre>', command=command)


def run(results: Results) -> Markup:
    """Command, machine, settings, and the file to download."""
    content, found = results.content, results.content["provenance"]
    about = machine_facts(content)
    if results.name == "claim":
        about.insert(0, ("Seeds", ", ".join(map(str, content["seeds"]))))
    if found["commit"]:
        about.append(("Commit", html("<code>{{ commit }}</code>", commit=found["commit"])))
    about.append(("Finished", html('<time datetime="{{ at }}">{{ at }}</time>', at=found["finished"])))
    return prose(
        "run",
        command=command_line(found["command"]),
        about=facts(about),
        settings=_arms(results) if results.name == "claim" else _networks(results),
        csv=download(f"{results.name}.csv", results.csv, "text/csv;charset=utf-8"),
    )


def _arms(results: Results) -> Markup:
    arms = [(block("named", each), prose("training", arm=each)) for each in results.networks]
    whole = html('<pre tabindex="0"><code>{{ config|tojson(2) }}</code></pre>', config=results.content["config"])
    differs = html("<h3>What differs between the arms</h3>") + facts(arms, "settings")
    return differs + folded("The whole configuration", whole)


def _networks(results: Results) -> Markup:
    names = [(block("named", each), html("<code>{{ name }}</code>", name=each.name)) for each in results.networks]
    return html(
        "<h3>Networks</h3>{{ networks }}<h3>Settings</h3>{{ settings }}",
        networks=facts(names, "networks"),
        settings=facts(results.content["settings"].items(), "settings"),
    )
