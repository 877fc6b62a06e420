"""A corpus as one model is measured on it, and what of it the page shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnviz.corpus import Choice, Corpus, run_key
from attnviz.edits import Head
from attnviz.errors import HeadError
from attnviz.figures.labels import KIND_WORDS
from attnviz.heads import DETECTORS
from attnviz.models import Model
from attnviz.ui.focus import start_head
from attnviz.ui.measuring import resting, shelf
from attnviz.ui.selection import Selection
from attnviz.view import Sinks


@dataclass(frozen=True, eq=False)
class Subject:
    """One measurement of one corpus, as far as it is.

    name    the model's, as the pool has it
    run     the measurement's, on the shelf
    done    texts that need no more work; left: those of them without values, by reason
    """

    name: str
    model: Model
    site: str
    sinks: Sinks
    known: Corpus
    run: str
    done: int
    left: dict[str, int]

    @classmethod
    def of(cls, name: str, model: Model, key: str, site: str, chosen: Selection) -> Subject:
        """raises InputError for a corpus that is not here any more"""
        sinks, known = resting(chosen), shelf().about(key)
        run = run_key(model, site=site, sinks=sinks)
        return cls(name, model, site, sinks, known, run, 0, {}).again()

    def again(self) -> Subject:
        """As far as it is now."""
        state = next((run for run in shelf().runs(self.known.key) if run.run == self.run), None)
        if state is None:
            return replace(self, done=0, left={})
        return replace(self, done=state.done + sum(state.left.values()), left=state.left)

    @property
    def id(self) -> tuple[str, str]:
        return self.known.key, self.run

    @property
    def whole(self) -> bool:
        return self.done >= self.known.n

    @property
    def measured(self) -> int:
        """Texts with values."""
        return self.done - sum(self.left.values())

    @property
    def resting_words(self) -> str:
        return ", ".join(KIND_WORDS[kind] for kind in self.sinks.kinds)

    def choice(self, chosen: Selection) -> Choice:
        """The detector and the variant to look at, of those that this site has."""
        detector = chosen.detector if chosen.detector in self.detectors else self.detectors[0]
        # Where the sink is taken away there is none to be found.
        with_sink = chosen.sink_in or detector == "sink"
        return Choice(detector, "with sink" if with_sink else "without sink")

    @property
    def detectors(self) -> tuple[str, ...]:
        kind = "cross" if self.site == "cross" else "self"
        return tuple(name for name, detector in DETECTORS.items() if kind in detector.sites)

    def head(self, chosen: Selection) -> Head:
        """The head to look at: the chosen one where the model has it."""
        info = self.model.info
        layer, head = start_head(info, self.site)
        if chosen.layer is not None:
            layer, head = chosen.layer, chosen.head or 0
        try:
            info.check_head(layer, head, self.site)
        except HeadError:
            layer, head = start_head(info, self.site)
        return Head(layer, head, None if len(info.sites) == 1 else self.site)


def site_of(model: Model, chosen: Selection) -> str:
    """The chosen attention where the model has it; of an encoder-decoder else cross-attention, as on other pages."""
    sites = model.info.sites
    return chosen.site if chosen.site in sites else sites[-1]
