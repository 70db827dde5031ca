package main

import (
	"errors"
	"strings"
	"testing"
)

// fixed is a runner whose runs take given times.
type fixed struct {
	seconds []float64
	items   int
	value   float64
	err     error
	next    int
	closed  bool
}

func (f *fixed) run() (answer, error) {
	f.next++
	return answer{f.seconds[(f.next-1)%len(f.seconds)], f.items, f.value}, f.err
}

func (f *fixed) close() { f.closed = true }

func TestMeasure(t *testing.T) {
	base := func(ours, theirs *fixed) row {
		return row{
			name: "r", peer: "p", target: 2, tolerance: 1e-3, rounds: 2, repeat: 2, skip: func() string { return "" },
			ours:   func(*peers) (runner, error) { return ours, nil },
			theirs: func(*peers) (runner, error) { return theirs, nil },
		}
	}
	with := &peers{python: "python"}
	for name, c := range map[string]struct {
		ours, theirs fixed
		peers        *peers
		skip         string
		want         result
	}{
		"met":                   {fixed{seconds: []float64{5, 1, 3}, value: 1}, fixed{seconds: []float64{4, 3}, value: 1.0001}, with, "", result{PeerBest: 3, OurBest: 1, Unit: "s", Ratio: 3, Met: true}},
		"not met":               {fixed{seconds: []float64{2}, value: 1}, fixed{seconds: []float64{3}, value: 1}, with, "", result{PeerBest: 3, OurBest: 2, Unit: "s", Ratio: 1.5}},
		"rates":                 {fixed{seconds: []float64{2}, items: 8, value: 1}, fixed{seconds: []float64{3}, items: 4, value: 1}, with, "", result{PeerBest: 4. / 3, OurBest: 4, Unit: "images/s", Ratio: 3, Met: true}},
		"wrong":                 {fixed{seconds: []float64{1}, value: 1.01}, fixed{seconds: []float64{3}, value: 1}, with, "", result{PeerBest: 3, OurBest: 1, Unit: "s", Ratio: 3, Wrong: true}},
		"skipped":               {fixed{}, fixed{}, with, "no AMX", result{Unit: "s", Problem: "no AMX"}},
		"no peers":              {fixed{seconds: []float64{1}, value: 1}, fixed{}, &peers{}, "", result{OurBest: 1, Unit: "s", Problem: "no peers here"}},
		"a limit without peers": {fixed{seconds: []float64{4}}, fixed{seconds: []float64{9, 8, 9, 9}}, &peers{}, "", result{PeerBest: 8, OurBest: 4, Unit: "s", Ratio: 2, Met: true}},
		"peer fails":            {fixed{seconds: []float64{1}}, fixed{seconds: []float64{1}, err: errors.New("boom")}, with, "", result{Unit: "s", Problem: "peer: boom"}},
		"ours fails":            {fixed{seconds: []float64{1}, err: errors.New("boom")}, fixed{seconds: []float64{1}}, with, "", result{Unit: "s", Problem: "ours: boom"}},
	} {
		r := base(&c.ours, &c.theirs)
		r.skip = func() string { return c.skip }
		if name == "a limit without peers" {
			r.limit = true
		}
		got := measure(r, c.peers, settings{})
		want := c.want
		want.Row, want.Peer, want.Target, want.Load = "r", "p", 2, got.Load
		want.PeerValue, want.OurValue = got.PeerValue, got.OurValue
		if got != want {
			t.Errorf("%s: %+v; want %+v", name, got, want)
		}
		if c.skip == "" && (!c.ours.closed || c.peers == with && !c.theirs.closed) {
			t.Errorf("%s: a runner was not closed", name)
		}
	}
}

func TestShow(t *testing.T) {
	var b strings.Builder
	err := show(&b, []result{
		{Row: "frechet", Peer: "pytorch-fid", PeerBest: 12.5, OurBest: 0.5, Unit: "s", Ratio: 25, Target: 20, Met: true, PeerValue: 1, OurValue: 1},
		{Row: commandRow(0), Peer: "pytorch-fid", OurValue: 2, PeerValue: 2, Ratio: 4, Target: 3.5, Met: true},
		{Row: commandRow(1), Peer: "pytorch-fid", OurValue: 2.1, PeerValue: 2, Ratio: 12, Remark: "no AMX here"},
		{Row: "bf16x3", Peer: "onnxruntime", Problem: "no AMX"},
		{Row: "w", Peer: "q", Ratio: 9, Wrong: true, PeerValue: 1, OurValue: 2, Target: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"25      20  yes", "bf16x3, onnxruntime: skipped: no AMX", "no target", "bf16 moves the FID of the two folders from 2 to 2.1, by 5.00e-02",
		"DIFFER", "w, q: the values differ: 1, ours 2", "no AMX here",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, b.String())
		}
	}
}

func TestAnswers(t *testing.T) {
	if v, err := fidOf(`{"metrics":{"fid":{"value":3.25,"ci":null}},"schema":1}`); v != 3.25 || err != nil {
		t.Errorf("fidOf: %v %v", v, err)
	}
	if v, err := fidOfPeer("FID:  12.5\n"); v != 12.5 || err != nil {
		t.Errorf("fidOfPeer: %v %v", v, err)
	}
	for _, bad := range []string{"", "{}", `{"metrics":{}}`} {
		if _, err := fidOf(bad); err == nil {
			t.Errorf("fidOf(%q): no error", bad)
		}
		if _, err := fidOfPeer(bad); err == nil {
			t.Errorf("fidOfPeer(%q): no error", bad)
		}
	}
}

// TestRows: every row can be told apart, and has both sides.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if k := r.name + "/" + r.peer; seen[k] || r.ours == nil || r.theirs == nil || r.rounds == 0 || r.repeat == 0 {
			t.Errorf("row %s: doubled or incomplete", k)
		} else {
			seen[k] = true
		}
	}
	if len(seen) != 99 {
		t.Errorf("%d rows; want 99", len(seen))
	}
}
