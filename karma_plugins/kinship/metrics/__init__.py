"""Built-in kinship metrics, one plugin a file; docs/kinship_metrics.md defines each."""
