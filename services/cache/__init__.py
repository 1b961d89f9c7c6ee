"""The one door to the object store: whoever is outside the hub reaches an object only by an address signed here.

Law of this room: a tenant's addresses stay below `t/<tenant>/`, an attempt's below what its own spec names.
Bytes never pass through.
"""
