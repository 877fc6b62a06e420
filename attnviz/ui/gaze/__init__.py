"""What the Gaze page is made of."""
