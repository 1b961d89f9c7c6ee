"""The only importers of nats, aioboto3 and kubernetes_asyncio. Each adapter is a port of `shared` made real."""
