"""What connects the engine to the world: bridges to services, servers, the embedded RAG, the page, the command line.

Adapters import the engine, never the reverse.
"""
