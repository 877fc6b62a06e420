"""BertViz: its own head, model and neuron views of the trace, and the products of queries and keys."""

from typing import cast

from attnviz.bertviz_views import Kind
from attnviz.errors import AttnvizError
from attnviz.ui import bertviz, say, views
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.products import product_view

opening = open_page("How does BertViz draw it?")
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    views.site_picker(trace.info, focus.head.site)
    kind = bertviz.kind_picker()
    with opening.extras:
        bertviz.what_counts(kind)
    if kind == "products":
        product_view(trace, focus)
    else:
        wanted = bertviz.what_to_draw(trace, focus, cast(Kind, kind))
        html = bertviz.made(trace, wanted) if wanted is not None else None
        if wanted is not None and html is not None:
            bertviz.show_page(trace, focus, wanted, html)
except AttnvizError as error:
    say.problem(error)
