"""What runs have reported, as lists and curves read it: series of metrics with their summaries."""
