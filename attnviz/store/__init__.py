"""Findings that last: kept in a database, private or shared, labelled by several people, exported and imported."""

from attnviz.store.annotators import Agreement, LabelAgreement
from attnviz.store.carried import Imported
from attnviz.store.store import Store, open_store

__all__ = ["Agreement", "Imported", "LabelAgreement", "Store", "open_store"]
