"""The service: REST API, database, dispatcher and command line."""
