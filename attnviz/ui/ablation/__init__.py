"""The Ablation page: heads taken out one by one and together, and what that changes."""
