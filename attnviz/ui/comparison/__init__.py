"""The Compare page: its forms, the two runs, what is drawn of them."""
