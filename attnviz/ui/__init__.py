"""The only place that knows Streamlit: selection, caches, widgets, components."""
