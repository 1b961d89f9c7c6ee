from tests.integration.stores import bus, nats, objects, weed

__all__ = ["bus", "nats", "objects", "weed"]
