"""What an installation has made and knows: models and data sets."""
