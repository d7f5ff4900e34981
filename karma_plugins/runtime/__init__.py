"""How work runs: kept pieces, several processes, progress, chance that belongs to a row."""
