"""The streams of a step: its output, its input, and its terminal, connected to ours (rows S74, S75)."""
