"""Recorded answers, verdicts and scores of others, brought into the folder that the stages read."""
