"""The Generation page: its form and run, what is drawn of the steps."""
