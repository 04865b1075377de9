"""Which checkpoint relies least on outlines, in plain words, and whether the figures can tell."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.train.report.networks import Network
from maskrobust.train.report.wording import Figure, bounds, decimal, method_title


class Finding(NamedTuple):
    """What the used shares of all checkpoints say under one masking method.

    Attributes:
        method: its name.
        least: the one checkpoint that relies less than every other, told apart from each; None where there is none.
        most: the one that relies more than every other, likewise.
        words: in sentences.
    """

    method: str
    least: Network | None
    most: Network | None
    words: str


def headline(networks: Sequence[Network], findings: Sequence[Finding]) -> str:
    """One or two clauses for the head of the page.

    Args:
        networks: at least one.
        findings: those of `findings_of`, one for each masking method.
    """
    if len(networks) == 1:
        return _alone(networks[0])
    least = _settled("least", {finding.method: finding.least for finding in findings})
    if least:
        return f"{least}."
    most = _settled("most", {finding.method: finding.most for finding in findings})
    if most:
        return f"{most}; which relies least cannot be told."
    return "Which checkpoint relies least on outlines cannot be told from these figures."


def _settled(word: str, found: Mapping[str, Network | None]) -> str:
    """As in "a relies least on outlines under black fill"; empty where no method settles it."""
    by_title: dict[str, list[str]] = {}
    for method, network in found.items():
        if network is not None:
            by_title.setdefault(network.title, []).append(method_title(method).lower())
    if len(by_title) > 1:
        return f"Which checkpoint relies {word} on outlines depends on the masking method"
    for title, methods in by_title.items():
        everywhere = "" if len(found) == 1 else ", under every masking method"
        return f"{title} relies {word} on outlines" + (
            everywhere if len(methods) == len(found) else f" under {_listed(methods)}"
        )
    return ""


def findings_of(networks: Sequence[Network], reliance: Mapping[str, Any]) -> list[Finding]:
    """What can be said under each masking method.

    Reliance is the magnitude of the used share. Two checkpoints are told apart where the intervals of their magnitudes
    do not overlap; also, where both shares lie on the same side of zero, where the interval of their paired difference
    does not hold zero, which reliance.json gives against the first checkpoint.

    Args:
        networks: at least one.
        reliance: the content of reliance.json.
    """
    return [_finding(networks, reliance, method) for method in networks[0].methods]


def _finding(networks: Sequence[Network], reliance: Mapping[str, Any], method: str) -> Finding:
    shares = {network.number: network.methods[method]["used_share"] for network in networks}
    defined = [network for network in networks if shares[network.number]["low"] is not None]
    if len(defined) < len(networks) or len(networks) == 1:
        listed = (f"{network.title}: used share {_written(shares[network.number])}" for network in networks)
        return Finding(method, None, None, f"{'; '.join(listed)}.")
    ordered = sorted(networks, key=lambda network: abs(shares[network.number]["value"]))
    ends = [
        (end, [other for other in networks if other != end and not _told_apart(end, other, reliance, method)])
        for end in (ordered[0], ordered[-1])
    ]
    (least, close_to_least), (most, close_to_most) = ends
    words = (
        f"{least.title} lies nearest to zero, with a used share of {_written(shares[least.number])}; {most.title} "
        f"farthest from it, with {_written(shares[most.number])}. "
    )
    return Finding(
        method,
        None if close_to_least else least,
        None if close_to_most else most,
        words + _apart(ends, len(networks) - 1),
    )


def _apart(ends: Sequence[tuple[Network, Sequence[Network]]], others: int) -> str:
    """Which of the other checkpoints the least and the most reliant one cannot be told apart from."""
    counts = {len(close) for _, close in ends}
    if counts == {0}:
        return "Each can be told apart from all others."
    if counts == {others}:
        return "They cannot be told apart." if others == 1 else "Neither can be told apart from any other."
    return " ".join(
        f"{end.title} cannot be told apart from {_listed([other.title for other in close])}."
        for end, close in ends
        if close
    )


def _told_apart(one: Network, other: Network, reliance: Mapping[str, Any], method: str) -> bool:
    shares = [network.methods[method]["used_share"] for network in (one, other)]
    (low, high), (other_low, other_high) = (_magnitude(share) for share in shares)
    if high < other_low or other_high < low:
        return True
    compared = {one.name, other.name} - {reliance["compared_with"]}
    if len(compared) != 1 or not (min(x["low"] for x in shares) > 0 or max(x["high"] for x in shares) < 0):
        return False
    difference = reliance["differences"][compared.pop()][method]["used_share"]
    return difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)


def _magnitude(share: Figure) -> tuple[float, float]:
    """Ends of the interval of a used share's magnitude."""
    low, high = share["low"], share["high"]
    if low <= 0 <= high:
        return 0.0, max(-low, high)
    return min(abs(low), abs(high)), max(abs(low), abs(high))


def _alone(network: Network) -> str:
    shares = {method: figures["used_share"] for method, figures in network.methods.items()}
    read = [
        method_title(method).lower()
        for method, share in shares.items()
        if share["low"] is not None and not share["low"] <= 0 <= share["high"]
    ]
    if read:
        return f"{network.title} relies on outlines under {_listed(read)}."
    if all(share["low"] is None for share in shares.values()):
        return f"Whether {network.title} relies on outlines cannot be told: its used share is undefined."
    return f"That {network.title} relies on outlines cannot be shown: every used share's interval holds zero."


def _written(share: Figure) -> str:
    if share["value"] is None:
        return "undefined"
    return f"{decimal(share['value'])} {bounds(share, decimal)}".strip()


def _listed(names: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
