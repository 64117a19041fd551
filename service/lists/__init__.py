"""Lists of jobs: filtered, sorted, page by page, counted. What is shown of a job in a row, not the whole of it."""
