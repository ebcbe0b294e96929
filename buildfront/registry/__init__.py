"""Pull and push over the OCI distribution API, and the credentials for it. It knows no store."""
