"""The YAML configurations that the package ships, and `find_config`, which finds them by name."""

from pathlib import Path

from maskrobust.errors import MissingFileError, did_you_mean

_FOLDER = Path(__file__).resolve().parent


def find_config(name: str) -> Path:
    """Find a configuration file: one of the user's own, or one that is shipped.

    Args:
        name: path of an existing file, taken as it is; else the name of a shipped YAML file relative to this package,
            with or without `.yaml`, as in "claim_cues".

    Returns:
        Path of an existing file.

    Raises:
        MissingFileError: neither exists, and the message lists the shipped names; or it is a folder.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = {path.relative_to(_FOLDER).as_posix(): path for path in sorted(_FOLDER.rglob("*.yaml"))}
    for candidate in (name, f"{name}.yaml"):
        if candidate in shipped:
            return shipped[candidate]
    if Path(name).is_dir():
        raise MissingFileError(f"expected a configuration file, but '{name}' is a folder; give a YAML file.")
    raise MissingFileError(
        f"expected a configuration file, but {name!r} neither exists nor is shipped{did_you_mean(name, shipped)}; "
        f"give a path or one of: {', '.join(shipped)}."
    )
