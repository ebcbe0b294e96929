"""Subscribers to the events of a build: they show a person or a program how it goes on."""
