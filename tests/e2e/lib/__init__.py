"""What the end-to-end stories are made of: processes, an upstream, images, container clients, checks."""
