"""What a user keeps of a run: the table, the live line, the file of results and the figures."""
