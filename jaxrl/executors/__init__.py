"""Executors: what runs a spec beyond `jaxrl.sweep.run`, which each of them calls: hosts, a Ray cluster, Kubernetes."""
