"""The pieces of the Heads page: what is asked, what is found, and how both are shown."""
