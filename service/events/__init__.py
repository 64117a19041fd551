"""Events: what happened, as a stream that a client resumes without gap or repeat."""
