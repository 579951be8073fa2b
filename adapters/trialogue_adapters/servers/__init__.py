"""Servers: the ASGI application, the hypercorn that serves it well, and the trio-websocket listener."""
