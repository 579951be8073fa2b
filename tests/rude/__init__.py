"""Clients that break the rules, against every way to serve: what they are told, and that nobody else notices."""
