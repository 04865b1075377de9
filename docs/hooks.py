"""Hooks of MkDocs. They add the pages at the top of the repository, README.md as the home page, and the notebooks."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Those of the repository, and what they are called on the site.
TOP_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
# Pages that name everything come last in a search.
BOOST = {"guide.md": 3, "CHANGELOG.md": 0.5, "troubleshooting.md": 0.5, "reference.md": 0.5}
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not Markdown files below `docs/`."""
    from mkdocs.structure.files import File

    for name, on_site in TOP_PAGES.items():
        files.append(File.generated(config, on_site, content=(ROOT / name).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page = notebook_page(json.loads(path.read_text(encoding="utf-8")), path.name)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give a page the links of the site, and its place in search."""
    source = page.file.src_uri
    page.meta["search"] = {"boost": BOOST.get(source.replace("reference/", "reference.md/").partition("/")[0], 1)}
    of_the_top = {on_site: name for name, on_site in TOP_PAGES.items()}
    return site_links(markdown, of_the_top.get(source, f"docs/{source}"))


def site_links(markdown: str, source: str) -> str:
    """A page's Markdown with links as the site has them.

    Links to a page lead to the site's, and are called by its title where they were called by its file; what is no page
    of the site is named, for the address of the repository is not known here. Other links stay as they are.

    Args:
        markdown: with links relative to the page's place in the repository.
        source: that place, such as "docs/claim.md".
    """
    folder = posixpath.dirname(source)
    site_folder = posixpath.relpath(folder, "docs") if folder else "."

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (ROOT / path).exists():
            return link[0]
        if path not in TOP_PAGES and not path.startswith("docs/"):
            return text if text.strip("`") == path else f"{text} (`{path}`)"
        if path.endswith(".md") and text in (target, posixpath.basename(path)):
            text = (ROOT / path).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        page = TOP_PAGES.get(path, path.removeprefix("docs/").replace(".ipynb", ".md"))
        return f"[{text}]({posixpath.relpath(page, site_folder)}{anchor})"

    return LINK.sub(replaced, markdown)


def notebook_page(notebook: dict[str, Any], file_name: str) -> str:
    """A notebook as Markdown: text as it is, code and printed text as blocks, pictures within the page.

    Args:
        notebook: of format 4, whose first cell is its title.
        file_name: of the notebook, which the page offers.
    """
    first, *cells = notebook["cells"]
    parts = ["".join(first["source"]), f'<a href="{file_name}" download>Download this notebook</a>']
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = {kind: "".join(value) for kind, value in output["data"].items()}
    return f"![{data['text/plain']}](data:image/png;base64,{data['image/png'].strip()})"
