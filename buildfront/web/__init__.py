"""Requests to servers: URLs read strictly, addresses judged before a connection, answers read within limits."""
