"""Findings that last: kept in a database, private or shared, labelled by several people, exported and imported."""

from attnviz.store.annotators import Agreement, LabelAgreement
from attnviz.store.briefs import Brief, brief_of
from attnviz.store.carried import Imported
from attnviz.store.store import Store, open_store

__all__ = ["Agreement", "Brief", "Imported", "LabelAgreement", "Store", "brief_of", "open_store"]
