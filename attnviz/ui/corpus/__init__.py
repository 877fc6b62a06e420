"""The Corpus page: its texts, what is measured on them, what came of it, and comparisons."""
