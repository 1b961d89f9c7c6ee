"""Attempts in containers on a machine without Kubernetes: the same containers as a pod's, kept by the machine's agent.

Law of the room: what a pod's containers do they do here, by the same plans and paths; the agent only starts them,
starts them again when they fail, and tells what they can't tell of themselves. It writes nothing into the attempt
directory once something runs: a step may have put a link there.
Imports point one way: site → custody → (shape, laying) → runtime → model, and (podman, containerd) → (calling, limits)
→ runtime.
"""
