"""Log lines of a job's attempts: pages in both directions, search, and a stream that follows."""
