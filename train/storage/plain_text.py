"""Text from files, such as names of classes, made harmless for terminals, logs and pages."""

from unicodedata import category

_ALLOWED = "\n\t"
_HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn")


def printable(text: str) -> str:
    r"""The text with what is invisible spelt out, as in "\\x1b[31m", but for spaces, tabs and line feeds.

    That is what Unicode counts among control and format characters, private and unassigned ones, and lone surrogates:
    they colour or overwrite a terminal's lines, or turn the direction of what is shown. Markup is left as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode() if each not in _ALLOWED and category(each) in _HARMFUL else each
        for each in text
    )
