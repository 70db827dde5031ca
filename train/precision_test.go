package train

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// A run in bf16 that is cancelled and goes on ends in the bytes of one that is not; a gradient that is not finite ends it as it does in
// float32.
func TestPrecisionResumes(t *testing.T) {
	s := settings(30)
	s.Precision = "bf16"
	whole, dir := t.TempDir(), t.TempDir()
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: whole}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{2, 11, 20} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := runDir(t, ctx, testJob(s, 16), Config{Settings: s, Dir: dir, Resume: at > 2, Progress: func(p Progress) {
			if p.Step == at {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "resumed", ends(t, dir), ends(t, whole))

	other := s
	other.Precision = ""
	_, err := runDir(t, t.Context(), testJob(other, 16), Config{Settings: other, Dir: dir, Resume: true})
	if err == nil || !strings.Contains(err.Error(), `settings.precision is "bf16" there and "float32" here`) {
		t.Errorf("resumed in float32: %v", err)
	}

	other.Precision = "fp16"
	if err := other.Check(); err == nil || !strings.Contains(err.Error(), "precision fp16, want one of float32, bf16") {
		t.Error(err)
	}

	var faults [2]int
	for i, precision := range Precisions() {
		wild := settings(30)
		wild.Precision, wild.Rate, wild.Clip, wild.Warmup, wild.Decay = precision, 1e20, 0, 0, 0
		_, err := Run(t.Context(), testJob(wild, 16), Config{Settings: wild})
		var fault *FaultError
		if !errors.As(err, &fault) {
			t.Fatalf("%s: a rate of 1e20: %v", precision, err)
		}
		if faults[i] = fault.Step; !strings.Contains(fault.What, ", element ") {
			t.Errorf("%s: %v", precision, err)
		}
	}
	if faults[0] != faults[1] {
		t.Errorf("faults at steps %d", faults)
	}
}

// A checkpoint of before there was a choice is one of float32.
func TestPrecisionOfOldCheckpoints(t *testing.T) {
	old, full, low := []byte(`{"settings":{"rate":1}}`), []byte(`{"settings":{"rate":1,"precision":"float32"}}`), []byte(`{"settings":{"rate":1,"precision":"bf16"}}`)
	if err := differ("f", old, full); err != nil {
		t.Error(err)
	}
	var differs *ConfigError
	if err := differ("f", old, low); !errors.As(err, &differs) || differs.Field != "settings.precision" {
		t.Error(err)
	}
}
