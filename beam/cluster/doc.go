// Package cluster tests the files of scripts/k8s and scripts/slurm: manifests
// against Kubernetes' own types, scripts by running them as the schedulers would.
package cluster
