//go:build native

// The tables are those of either flavour, whose features fid/extract compares; this one makes them in a tenth of the time.

package main

import (
	"os"
	"testing"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/fid/extract"
)

// These are the checks that the encoders had to pass before they were used, on the built-in files.
// Normally they take few pictures and three levels of each damage; with FIDLAB_ENCODERS=full all
// those of docs/encoders.md, which takes minutes. docs/encoders.md has the figures.

// extent is how much is measured.
type extent struct{ items, ref, damaged int }

func (x extent) levels(all []float64) []float64 {
	if x.full() {
		return all
	}
	return []float64{all[0], all[len(all)/2], all[len(all)-1]}
}

func (x extent) full() bool { return x.items > 1<<20 }

func howMuch() extent {
	if os.Getenv("FIDLAB_ENCODERS") == "full" {
		return extent{1 << 30, 1 << 30, 2048}
	}
	return extent{512, 1024, 256}
}

// least are the shares of right answers that an encoder must give on test, of flags of single ones;
// of numbers R².
var least = map[string]map[string]float64{
	"shapes-enc":   {"count": 0.97, "colours": 0.97, "cells": 0.95, "background": 0.97, "level": 0.97},
	"shapes-enc-b": {"count": 0.97, "colours": 0.97, "pairs": 0.96},
	"shapes16-enc": {"colour": 0.97, "level": 0.97},
	"digits-enc":   {"digit": 0.95},
	"city-enc":     {"city": 0.8, "coverage": 0.85, "components": 0.8},
	"city-enc-b":   {"city": 0.8, "coverage": 0.9, "components": 0.85},
	"street-enc-b": {"light": 0.97, "camera": 0.9, "classes": 0.95},
	"facade-enc":   {"wall": 0.97, "storey": 0.95, "bay": 0.93, "window": 0.93, "kinds": 0.97, "wall and storey": 0.97},
	"street-enc":   {"light": 0.97, "camera": 0.9, "classes": 0.9},
	"motion-enc":   {"action": 0.97, "direction": 0.97, "pace": 0.97, "path": 0.97, "turn": 0.97, "hand": 0.97, "cycles": 0.9},
}

func checkScores(t *testing.T, name string, scores []score) {
	t.Helper()
	known := least[name]
	if known == nil {
		t.Errorf("%s: no demands on its answers are known", name)
	}
	for _, c := range scores {
		got := c.Right
		if got != got {
			got = c.All
		}
		t.Logf("%s: %s %.4f, all %.4f", name, c.Head, c.Right, c.All)
		if want, ok := known[c.Head]; ok && got < want {
			t.Errorf("%s: %s is right in %.4f; want at least %.4f", name, c.Head, got, want)
		}
	}
}

func checkFloors(t *testing.T, name string, test, ref vectors, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	fs, err := floors(test, ref, sizes)
	if err != nil || len(fs) == 0 {
		t.Fatalf("%s: %d sizes of %d and %d vectors: %v", name, len(fs), test.n(), ref.n(), err)
	}
	for _, f := range fs {
		t.Logf("%s: n = %d: half against half %.4g, test against half %.4g, ratio %.2f", name, f.N, f.Floor, f.Test, f.Test/f.Floor)
		if f.Test > 2*f.Floor {
			t.Errorf("%s: n = %d: FID(test, half) is %.2f times FID(half, half); want at most 2", name, f.N, f.Test/f.Floor)
		}
	}
}

// fallsShort are the curves that rise only from a later level on, with its number: what comes before
// is within the noise of 1,000 or 2,000 vectors. docs/encoders.md says so below their tables.
var fallsShort = map[string]int{"motion-enc: noise": 1, "digits-enc: halves exchanged": 1}

func checkCurve(t *testing.T, name string, c curve) {
	t.Helper()
	t.Logf("%s: %s %v: FID %.4g", name, c.name, c.levels, c.values)
	if from := fallsShort[name+": "+c.name]; len(c.values) > 3 {
		c.values = c.values[from:]
	}
	if !c.rises() {
		t.Errorf("%s: %s %v: FID %.4g does not rise strictly", name, c.name, c.levels, c.values)
	}
}

func TestEncoders(t *testing.T) {
	x := howMuch()
	for _, task := range tasks {
		t.Run(task.name, func(t *testing.T) {
			s, err := task.open()
			if err != nil {
				t.Fatal(err)
			}
			if _, ships := assets.Lookup(task.name); !ships {
				t.Skip("a recipe whose encoder does not ship")
			}
			e, err := extract.OpenEncoder(task.name)
			if err != nil {
				t.Fatal(err)
			}
			scores, test, err := s.scores(e, min(x.items, s.len(s.test)))
			if err != nil {
				t.Fatal(err)
			}
			checkScores(t, task.name, scores)
			ref, err := s.refFeatures(e, min(x.ref, s.len(s.ref)))
			checkFloors(t, task.name, test, ref, err)
			for i := range s.damages {
				s.damages[i].levels = x.levels(s.damages[i].levels)
			}
			curves, err := s.curves(e, ref, min(x.damaged, s.len(s.test)))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range curves {
				checkCurve(t, task.name, c)
			}
		})
	}
}

func TestMotionEncoder(t *testing.T) {
	x := howMuch()
	m := motionSet{motion.New(data.DefaultSeed)}
	e, err := extract.OpenMotion(extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	scores, test, err := m.scores(e, min(x.items, m.set.Len(data.Test)))
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, extract.MotionName, scores)
	match, err := m.match(e, test, test.n()/32*32)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("R-precision %.4f, distance %.4f", match.R, match.Distance)
	if match.R[0] < leastR1 || match.R[0] > match.R[1] || match.R[1] > match.R[2] {
		t.Errorf("R-precision %.4f; want at least %.4f first, and rising", match.R, leastR1)
	}
	ref, err := clipFeatures(e, min(x.ref, m.set.Len(data.Ref)), m.clip(data.Ref))
	checkFloors(t, extract.MotionName, test, ref, err)
	damages := m.damages()
	for i := range damages {
		damages[i].levels = x.levels(damages[i].levels)
	}
	curves, err := m.curvesOf(e, ref, min(x.damaged, m.set.Len(data.Test)), damages)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range curves {
		checkCurve(t, extract.MotionName, c)
	}
}

// leastR1 is the share of captions whose own motion must be the nearest of 32.
const leastR1 = 0.7
