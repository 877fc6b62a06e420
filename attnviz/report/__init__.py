"""Reports: findings with their evidence as one file that opens anywhere and asks nobody.

report.html(findings, title="...")       one HTML document: figures, texts, numbers, and the Python that makes them
report.markdown(findings, title="...")   the same as Markdown, with tables in place of pictures
report.write(path, findings, ...)        whole or not at all; .md is Markdown, .html is HTML

Everything in a finding may come from a stranger's file: it stands in a report as text and as Python literals, never as
markup or code. What is left out: keys of texts that addresses hold, folders of this machine, and e-mail addresses other
than an author's own name.
"""

from attnviz.report.files import write
from attnviz.report.marked import markdown
from attnviz.report.web import html

__all__ = ["html", "markdown", "write"]
