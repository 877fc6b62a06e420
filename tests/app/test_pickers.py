"""Widgets to choose by: each shows what is chosen, whatever it held before, and gives on what is chosen next."""

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages import assert_fine


def few(free: bool, apart: bool) -> None:
    import streamlit as st

    from attnviz.ui.pickers import segments

    def use(found: str | None) -> None:
        st.session_state["used"] = [*st.session_state.get("used", []), found]
        st.session_state["chosen"] = found

    chosen, titles = st.session_state.get("chosen", "a"), {"a": "The first", "b": "The second"}
    segments("Which", titles, chosen, key="which", use=use, free=free, apart=apart)


def any_of() -> None:
    import streamlit as st

    from attnviz.ui.pickers import pills

    st.session_state.setdefault("chosen", ("b",))
    titles = {"b": "B", "a": "A", "c": "C"}
    pills("Any", titles, st.session_state["chosen"], key="any", use=lambda found: st.session_state.update(chosen=found))


def kept(shown: bool) -> None:
    import streamlit as st

    from attnviz.ui.pickers import held

    if shown:
        st.slider("How many", 1, 9, key="many-widget", on_change=held("many", 4, key="many-widget"))


def drawn(script: Any, **options: bool) -> AppTest:
    return AppTest.from_function(script, kwargs=options, default_timeout=60).run()


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_switched_off_stays_what_it_is(apart: bool) -> None:
    test = drawn(few, free=False, apart=apart)
    which = test.button_group(key="which")
    assert [option.content for option in which.proto.options] == ["The first", "The second"]
    which.set_value("b").run()
    test.button_group(key="which").set_value(None).run()
    assert_fine(test)
    assert test.session_state["used"] == ["b", "b"]
    assert test.button_group(key="which").value == "b"


def test_what_is_free_can_be_switched_off() -> None:
    test = drawn(few, free=True, apart=False)
    test.button_group(key="which").set_value(None).run()
    assert_fine(test)
    assert test.session_state["used"] == [None]
    assert test.button_group(key="which").value is None


def test_a_choice_from_elsewhere_is_shown_in_place_of_the_widgets_own() -> None:
    test = drawn(few, free=False, apart=False)
    test.button_group(key="which").set_value("b").run()
    test.session_state["chosen"] = "a"
    test.run()
    assert_fine(test)
    assert test.button_group(key="which").value == "a"
    assert test.session_state["used"] == ["b"]


def test_any_of_a_few_come_in_the_order_of_the_options() -> None:
    test = drawn(any_of)
    test.button_group(key="any").set_value(["c", "a", "b"]).run()
    assert_fine(test)
    assert test.session_state["chosen"] == ("b", "a", "c")
    test.button_group(key="any").set_value([]).run()
    assert test.session_state["chosen"] == ()


def test_what_is_held_outlives_its_widget() -> None:
    test = drawn(kept, shown=True)
    assert test.slider(key="many-widget").value == 4
    test.slider(key="many-widget").set_value(7).run()
    test.kwargs = {"shown": False}
    test.run()
    assert len(test.slider) == 0
    test.kwargs = {"shown": True}
    test.run()
    assert_fine(test)
    assert test.slider(key="many-widget").value == 7
