"""A real Kubernetes for tests: real etcd, API server, controllers and scheduler, and, as root, a real node."""
