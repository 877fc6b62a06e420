"""What the Highlights page is made of."""
