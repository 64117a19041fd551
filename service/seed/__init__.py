"""An installation full of generated data, to develop and measure pages with. None of it was ever trained."""
