"""Chunks of logs become parts in the object store, and can be read meanwhile.

Law of this room: the parts themselves are the index. A part's key says which bytes it holds and from when, so storing a
part and indexing it are one act, nothing is ever overwritten with less, and two owners of a log can only do the same
work twice.
"""
