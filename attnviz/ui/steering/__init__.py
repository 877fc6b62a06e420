"""The pieces of the Steering page: which words, by what and where, and what comes of it."""
