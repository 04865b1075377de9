"""Weights & Biases: how a run appears there, and runs of commands that do not train."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.train.report.results import Results

if TYPE_CHECKING:
    import wandb

PATIENCE = 30.0
"""Seconds that W&B waits for a server before a run, all together."""
_WHO_AM_I = 3 * 5.0
"""Those of them in which W&B asks who is logged in: once at `wandb.login`, twice at `wandb.init`."""


_COLUMNS = (
    *("network", "method", "measure", "value", "low", "high", "images", "left_out"),
    *("compared_with", "compared_method", "reading", "undefined_because"),
)


@dataclass(frozen=True)
class WandbOptions:
    """How a run appears in Weights & Biases.

    Attributes:
        project: project that the run belongs to.
        entity: user or team that owns the project; None for whoever is logged in.
        group: under which it is put together with others; None for no group.
        tags: words to find it by.
    """

    project: str = "maskrobust"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def begin_evaluation(given: WandbOptions | Literal[True], network: str, folder: Path) -> "wandb.Run":
    """Begin a run of an evaluation; where no project and no group are given, in those of the network's training.

    Args:
        given: how the run appears.
        network: name of a network; what its training was called is looked up where that is a checkpoint of `fit`. Who
            owns the project is never taken from the file: anyone may have written it, and would get what is logged.
        folder: below which W&B writes its own folder `wandb`.

    Raises:
        InputError: W&B cannot be reached, or does not take the run.
    """
    import wandb

    options = WandbOptions() if given is True else given
    if (options.project, options.group) == (WandbOptions.project, None):
        options = replace(options, **_of_training(network))
    folder.mkdir(parents=True, exist_ok=True)
    with refusals_as_input_errors():
        return wandb.init(
            job_type="evaluation",
            name=folder.name,
            dir=folder,
            **asdict(options),
            mode=mode(),
            settings=run_settings(),
        )


def log_evaluation(run: "wandb.Run", results: Results, page: Path) -> None:
    """Log what an evaluation found: each defined number in the summary, all of them as a table, and the page.

    Args:
        run: the run.
        results: what was found.
        page: the HTML file that shows it.
    """
    import wandb

    run.config.update({name: value for name, value in results.content.items() if name != "provenance"})  # type: ignore[no-untyped-call]
    titles = {each.name: f"{each.title}/" * (len(results.networks) > 1) for each in results.networks}
    for row in results.defined:
        run.summary[f"reliance/{titles[row.network]}{row.method}/{row.name}"] = row.value
    lines = [[getattr(replace(row, measure=row.name), name) for name in _COLUMNS] for row in results.rows]
    run.log({"rows": wandb.Table([*_COLUMNS], lines), "page": wandb.Html(page, inject=False)})


def _of_training(network: str) -> dict[str, Any]:
    """Project and group in the checkpoint of a training that was logged."""
    if not network.endswith(".ckpt") or not Path(network).is_file():
        return {}
    config = read_checkpoint(network).get("config")
    logged = config.get("wandb") if isinstance(config, dict) else None
    said = logged if isinstance(logged, dict) else {}
    return {name: said[name] for name in ("project", "group") if isinstance(said.get(name), str)}


def run_settings() -> "wandb.Settings":
    """Settings of a run that waits for its server no longer than `PATIENCE`."""
    import wandb

    return wandb.Settings(init_timeout=PATIENCE - _WHO_AM_I, x_graphql_timeout_seconds=PATIENCE)


def mode() -> Literal["offline"] | None:
    """Offline where nobody is logged in; None where W&B's own settings count."""
    import wandb

    with refusals_as_input_errors():
        is_set = wandb.setup().settings.mode != "online"
        return None if is_set or wandb.login(prompt=False, verify=False) else "offline"


@contextmanager
def refusals_as_input_errors() -> Iterator[None]:
    """Say in one sentence what W&B does not take: credentials, a server that cannot be reached, a run."""
    import wandb

    try:
        yield
    except wandb.errors.Error as error:
        raise InputError(
            f"the run must begin in Weights & Biases, but that failed ({str(error).rstrip('.')}); log in with "
            "'wandb login', or set WANDB_MODE=offline and upload the run later with 'wandb sync'."
        ) from error
