"""The streams of a step: what it prints passed on, input passed in, its terminal joined to ours (rows S74, S75)."""
