"""What was detected and what is there, as plain arrays: matching, errors, rankings. No torch: the api reads it too."""
