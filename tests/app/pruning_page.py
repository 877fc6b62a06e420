"""Opening the sections on pruning and baking of the Ablation page in Streamlit's own test harness."""

from typing import Any

from flow_page import MODELS
from streamlit.testing.v1 import AppTest

from attnviz.ui.session import stores
from pages import SECONDS

DATE, SENTENCE = "the 3rd of May 1998", "Mary has a small red boat."


def page() -> None:
    """The two sections under the page's questions, without the others."""
    from attnviz.errors import AttnvizError
    from attnviz.ui import say
    from attnviz.ui.ablation.asking import subject_of
    from attnviz.ui.ablation.baking import baked
    from attnviz.ui.ablation.pruning import pruning
    from attnviz.ui.page import focus_on, open_page, traced

    opening = open_page("What does each head do for this outcome?")
    try:
        trace = traced(opening)
        assert opening.model is not None
        subject = subject_of(opening.model, trace, focus_on(opening, trace))
        pruning(subject)
        baked(subject)
    except AttnvizError as error:
        say.problem(error)


def opened(fields: dict[str, Any] | None = None, **parameters: str) -> AppTest:
    """A session at this address, with the fields of the pruning curve as somebody left them."""
    stores().traces.clear()
    name = parameters.get("model", "smollm2")
    stores().models.put(name, MODELS[name])
    test = AppTest.from_function(page, default_timeout=SECONDS)
    if fields is not None:
        test.session_state["attnviz_ablation_pruning"] = fields
    for key, value in parameters.items():
        test.query_params[key] = value
    return test.run()
