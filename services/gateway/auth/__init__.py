"""Who asks over HTTP: API keys and JWTs become a Principal; hosts, origins and rates are checked before any work."""
