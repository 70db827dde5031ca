package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// manifest reads a file of scripts/k8s as Kubernetes' own types; an unknown field, or one at the wrong place, is an error.
func manifest(t *testing.T, name string) *batchv1.Job {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../scripts/k8s", name))
	if err != nil {
		t.Fatal(err)
	}
	job := new(batchv1.Job)
	if err := yaml.UnmarshalStrict(b, job); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return job
}

// TestManifests checks what the API server would refuse of a Job, and what the two jobs rely on.
func TestManifests(t *testing.T) {
	for _, name := range []string{"stats.yaml", "merge.yaml"} {
		job := manifest(t, name)
		spec := job.Spec.Template.Spec
		if job.APIVersion != "batch/v1" || job.Kind != "Job" || job.Name == "" {
			t.Errorf("%s: %s %s %q", name, job.APIVersion, job.Kind, job.Name)
		}
		if len(spec.Containers) != 1 || spec.Containers[0].Image == "" || spec.Containers[0].Name == "" {
			t.Fatalf("%s: containers %+v", name, spec.Containers)
		}
		if spec.RestartPolicy != corev1.RestartPolicyNever { // what podFailurePolicy demands
			t.Errorf("%s: restartPolicy %q with a podFailurePolicy; want Never", name, spec.RestartPolicy)
		}
		for _, r := range job.Spec.PodFailurePolicy.Rules {
			if (r.OnExitCodes == nil) == (len(r.OnPodConditions) == 0) {
				t.Errorf("%s: a rule of %s has not exactly one of exit codes and conditions", name, r.Action)
			}
			if c := r.OnExitCodes; c != nil && (c.ContainerName == nil || *c.ContainerName != spec.Containers[0].Name || c.Operator != "In" ||
				!slices.IsSorted(c.Values) || slices.Contains(c.Values, 0)) {
				t.Errorf("%s: exit codes %+v", name, c)
			}
			if r.Action == batchv1.PodFailurePolicyActionFailIndex && job.Spec.BackoffLimitPerIndex == nil {
				t.Errorf("%s: FailIndex needs backoffLimitPerIndex", name)
			}
		}
		volumes := map[string]bool{}
		for _, v := range spec.Volumes {
			volumes[v.Name] = v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName != ""
		}
		for _, m := range spec.Containers[0].VolumeMounts {
			if !volumes[m.Name] || m.MountPath != "/data" {
				t.Errorf("%s: mount %+v of no claim", name, m)
			}
		}
		if len(spec.Containers[0].VolumeMounts) == 0 {
			t.Errorf("%s: nothing is mounted", name)
		}
	}
	stats := manifest(t, "stats.yaml").Spec
	if stats.CompletionMode == nil || *stats.CompletionMode != batchv1.IndexedCompletion {
		t.Error("stats.yaml: the pods have no index")
	}
	tasks, err := strconv.Atoi(variable(stats.Template.Spec.Containers[0], "SHARD_TASKS"))
	if err != nil || int32(tasks) != *stats.Completions || *stats.Parallelism > *stats.Completions {
		t.Errorf("stats.yaml: %d tasks, %d completions, %d at once: %v", tasks, *stats.Completions, *stats.Parallelism, err)
	}
}

func variable(c corev1.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// TestImage: the image has what the containers call.
func TestImage(t *testing.T) {
	b, err := os.ReadFile("../../scripts/k8s/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"COPY bin/fidlab /usr/local/bin/fidlab", "COPY scripts/shards.sh /usr/local/bin/shards.sh"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}
