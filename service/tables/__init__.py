"""Tables of results to reproduce: which cells are there, what is missing, how they compare with what is published."""
