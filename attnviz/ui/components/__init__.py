"""The components of the page: a matrix drawn on a canvas and a strip of tokens tinted by weight."""

from attnviz.ui.components.maps import matrix
from attnviz.ui.components.strips import token_strip

__all__ = ["matrix", "token_strip"]
