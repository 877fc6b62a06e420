"""The pieces of the Flow page: the target, the graph, the methods, and what writes the prediction."""
