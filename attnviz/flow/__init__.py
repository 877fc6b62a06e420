"""Where a prediction came from, by every published method, and how far each can be trusted."""
