"""The Notebook page: findings kept, planned, measured, labelled, exported and opened again."""
