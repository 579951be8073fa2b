"""A web client of the deployed OneRAG server, unchanged, against `--dialect onerag`."""
