"""The head atlas: what is known of every head of one model."""
