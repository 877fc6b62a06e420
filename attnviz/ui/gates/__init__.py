"""What the Gates page is made of."""
