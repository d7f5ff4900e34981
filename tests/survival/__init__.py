"""Bad luck and bad will: what befalls kept work, servers, disks and processes, and what outs come of it."""
