"""report.html: the report's markdown as one page with its plots in it, which opens from disk and asks the network for
nothing."""

import html
from importlib.resources import files
from string import Template

from kd_bench.report.draw import Plot

FILES = files("kd_bench.report") / "page_files"


def render_page(title: str, markdown: str, plots: list[Plot]) -> str:
    """markdown: with images plots/<name>.svg, which are put in. HTML in it is shown as text. Pure."""
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    drawn = {f"plots/{plot.name}.svg": plot.svg for plot in plots}
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", lambda _, tokens, i, options, env: drawn[tokens[i].attrGet("src")])
    tokens = parser.parse(markdown)
    contents, body = [], []
    for i, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag != "h1":
            anchor = f"s{len(contents) + 1}"
            token.attrSet("id", anchor)
            contents.append((token.tag, anchor, tokens[i + 1]))
        if token.type == "table_open":
            body.append(Token("html_block", "", 0, content='<div class="wide" tabindex="0">'))
        body.append(token)
        if token.type == "table_close":
            body.append(Token("html_block", "", 0, content="</div>"))
    links = [
        f'<a href="#{anchor}">{parser.renderer.render([inline], parser.options, {})}</a>'
        for tag, anchor, inline in contents
        if tag == "h2"
    ]
    return Template((FILES / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(FILES / "report.css").read_text(encoding="utf-8"),
        links="\n".join(links),
        body=parser.renderer.render(body, parser.options, {}),
    )
