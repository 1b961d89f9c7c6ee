"""One real Kubernetes node on this machine: containerd and kubelet beside tests/kube's control plane. Needs root."""
