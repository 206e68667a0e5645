"""What the nine files on top stand on. Nothing here knows a model, a task or an algorithm."""
