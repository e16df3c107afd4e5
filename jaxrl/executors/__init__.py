"""Executors: where and how a spec runs beyond `jaxrl.sweep.run`, which each calls: here, hosts, Ray, Kubernetes."""
