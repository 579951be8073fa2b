"""What tests share: a rude raw client, a misbehaving service, and a server process."""
