"""The dispatcher: makes the cluster match the database, and MLflow mirror it."""
