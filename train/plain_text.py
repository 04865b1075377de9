"""Text from files, such as names of classes, made harmless for terminals, logs and pages."""

import re

_HARMLESS = re.compile(r"[\n\t]")


def printable(text: str) -> str:
    r"""The text with everything invisible but spaces, line ends and tabs spelt out, as in "\\x1b[31m".

    That is what Unicode counts among control and format characters, private or unassigned ones and lone surrogates:
    they colour or overwrite a terminal's lines, or turn the direction of what is shown. Markup is left as it is.
    """
    return "".join(
        each if each.isprintable() or _HARMLESS.match(each) else each.encode("unicode_escape").decode() for each in text
    )
