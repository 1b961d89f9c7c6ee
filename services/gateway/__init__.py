"""The gateway: two doors (HTTP and bus), one admission, and everything people ask.

The room's law: whatever comes in is bounded before it is read, the tenant comes from the credential or the subject and
never from a body, and nothing here moves a job after it was created. `policy` is pure; the projection can be deleted
at any time.
"""
