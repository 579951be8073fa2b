"""Does a server, or a client, speak this protocol? For anybody's: `trialogue conformance`.

`server_checks` asks a server at any address; `client_scenes` is a server that plays what networks and servers do, and
judges the client that comes. Both look at the wire only, and at nothing of this project's own server. `service` is what
has to stand behind a server while it is asked.
"""
