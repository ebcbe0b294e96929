"""Walks a step graph: what is cached, what runs, side by side where it may. Knows no Dockerfile text."""
