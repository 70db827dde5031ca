package partial

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/rng"
)

// rows are n vectors of d features far from zero, where sloppy sums lose digits.
func rows(n, d int) []float32 {
	r := rng.New(5, uint64(n*d))
	x := make([]float32, n*d)
	r.FillNormal32(x)
	for i := range x {
		x[i] = x[i]*float32(1+i%d) + 100*float32(i%d)
	}
	return x
}

// piecesOf cuts rows into shards of size rows, and shards into pieces of step rows.
func piecesOf(x []float32, d, size, step int, wide bool) (all []Piece, shards int) {
	n := len(x) / d
	for from := 0; from < n; from += size {
		end := min(from+size, n)
		for at := from; at < end; at += step {
			part := x[at*d : min(at+step, end)*d]
			p := Piece{Shard: shards, First: at - from, Dim: d}
			if p.Rows = part; wide && shards%2 == 1 {
				p.Rows = nil
				for _, v := range part {
					p.Wide = append(p.Wide, float64(v))
				}
			}
			all = append(all, p)
		}
		all[len(all)-1].End = &End{Name: fmt.Sprintf("s%d.tar", shards), Rows: end - from}
		shards++
	}
	return all, shards
}

// gather spreads pieces over workers in a random order, sends the partials through bytes, and merges them in a random order.
func gather(t *testing.T, pieces []Piece, workers int, keep int64, seed uint64) *Partial {
	t.Helper()
	r := rng.New(seed, 1)
	parts := make([]*Partial, workers)
	for i := range parts {
		parts[i] = New(keep)
	}
	for _, i := range r.Perm(len(pieces)) {
		var p Piece
		b, err := pieces[i].MarshalBinary()
		if err == nil {
			err = p.UnmarshalBinary(b)
		}
		if err == nil {
			err = parts[r.Intn(workers)].Add(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all := New(keep)
	for _, i := range r.Perm(workers) {
		if err := all.Merge(travel(t, parts[i])); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// travel is what another process reads of p.
func travel(t *testing.T, p *Partial) *Partial {
	t.Helper()
	b, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	q := new(Partial)
	if err := q.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if again, err := q.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("read back, it is written as other bytes (%v)", err)
	}
	return q
}

func TestKeptRowsGiveTheSameBits(t *testing.T) {
	for _, c := range []struct{ n, d int }{{40, 50}, {600, 20}} { // fewer and more than features
		x := rows(c.n, c.d)
		want, err := fid.FromFeatures(x, c.n, c.d)
		if err != nil {
			t.Fatal(err)
		}
		pieces, shards := piecesOf(x, c.d, 70, 9, false)
		for seed := range uint64(5) {
			got, err := gather(t, pieces, 3, 1<<20, seed).Stats(shards)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("n=%d d=%d, order %d: not the bits of one process", c.n, c.d, seed)
			}
		}
	}
}

func TestMomentsWithoutRows(t *testing.T) {
	const n, d = 3000, 24
	x := rows(n, d)
	m := fid.NewMoments(d)
	if err := m.Add(x); err != nil {
		t.Fatal(err)
	}
	want := m.Stats()
	for _, wide := range []bool{false, true} {
		pieces, shards := piecesOf(x, d, 500, 77, wide)
		for seed := range uint64(5) {
			got, err := gather(t, pieces, 3, 0, seed).Stats(shards)
			if err != nil {
				t.Fatal(err)
			}
			if got.Features != nil || got.N != n {
				t.Fatalf("%d rows, %d values kept; want %d and none", got.N, len(got.Features), n)
			}
			closeTo(t, got, want)
		}
	}
}

// TestWideRows: with float64 rows among them the vectors are kept beside moments of all digits.
func TestWideRows(t *testing.T) {
	const n, d = 300, 10
	x := rows(n, d)
	pieces, shards := piecesOf(x, d, 50, 7, true)
	got, err := gather(t, pieces, 3, 1<<20, 1).Stats(shards)
	if err != nil {
		t.Fatal(err)
	}
	want, err := fid.FromFeatures(x, n, d)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Features, want.Features) {
		t.Error("the vectors are not those of the set in its order")
	}
	closeTo(t, got, want)
}

// closeTo holds moments to 1e-12 of √(Σᵢᵢ·Σⱼⱼ).
func closeTo(t *testing.T, got, want *fid.Stats) {
	t.Helper()
	d := want.Dim()
	for i := range d {
		si := want.Sigma[i*d+i]
		if e := math.Abs(got.Mu[i]-want.Mu[i]) / math.Sqrt(si); e > 1e-12 {
			t.Errorf("mean %d is off by %.1e of its deviation", i, e)
		}
		for j := range d {
			if e := math.Abs(got.Sigma[i*d+j]-want.Sigma[i*d+j]) / math.Sqrt(si*want.Sigma[j*d+j]); e > 1e-12 {
				t.Errorf("covariance (%d,%d) is off by %.1e", i, j, e)
			}
		}
	}
}

// TestRetriedBundle: what an engine does with a bundle that failed. Its partial is thrown away and the bundle is done again.
func TestRetriedBundle(t *testing.T) {
	const n, d = 900, 16
	x := rows(n, d)
	pieces, shards := piecesOf(x, d, 300, 50, false)
	for _, keep := range []int64{0, 1 << 20} {
		bundle := func(shard, until int) *Partial {
			p := New(keep)
			for _, piece := range pieces[shard*6 : shard*6+until] {
				if err := p.Add(piece); err != nil {
					t.Fatal(err)
				}
			}
			return p
		}
		run := func(failing bool) *fid.Stats {
			all := New(keep)
			for s := range shards {
				if failing && s == 1 {
					bundle(s, 4) // failed after four pieces; nobody merges it
				}
				if err := all.Merge(bundle(s, 6)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := all.Stats(shards)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if !reflect.DeepEqual(run(true), run(false)) {
			t.Errorf("keep %d: the retry changed bits", keep)
		}
		// An engine that delivered both would be found out.
		all := bundle(1, 4)
		if err := all.Merge(bundle(1, 6)); err == nil || !strings.Contains(err.Error(), "s1.tar: rows 0 to 299 were counted twice") {
			t.Errorf("keep %d: rows that came twice: %v", keep, err)
		}
	}
}

func TestAccount(t *testing.T) {
	x := rows(20, 3)
	pieces, shards := piecesOf(x, 3, 10, 4, false) // three pieces each
	add := func(which ...int) error {
		p := New(0)
		for _, i := range which {
			if err := p.Add(pieces[i]); err != nil {
				return err
			}
		}
		_, err := p.Stats(shards)
		return err
	}
	if err := add(5, 3, 1, 0, 2, 4); err != nil {
		t.Errorf("all pieces: %v", err)
	}
	for want, which := range map[string][]int{
		"shard 1 of 2 never came to its end": {0, 1, 2, 3, 4},
		"s0.tar: 6 of 10 rows arrived":       {0, 2, 3, 4, 5},
		"s1.tar was counted twice":           {0, 1, 2, 3, 4, 5, 5},
		"rows 4 to 7 were counted twice":     {0, 1, 1, 2, 3, 4, 5},
	} {
		if err := add(which...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pieces %v: %v; want %q", which, err, want)
		}
	}
	p := New(0)
	if err := p.Add(Piece{Shard: 0, Dim: 3, Rows: x[:9]}); err != nil {
		t.Fatal(err)
	}
	if err := p.Add(Piece{Shard: 1, Dim: 2, Rows: x[:4]}); err == nil || !strings.Contains(err.Error(), "2 features a row, others of the set have 3") {
		t.Errorf("rows of another width: %v", err)
	}
}

func TestUnlikeShards(t *testing.T) {
	p := New(0)
	for i, preset := range []string{"clean", "tf"} {
		made := &fid.Provenance{Extractor: fid.ExtractorInfo{Name: "inception", Preset: preset, Dim: 2}}
		if err := p.Add(Piece{Shard: i, Dim: 2, Rows: []float32{1, 2}, End: &End{Name: preset + ".tar", Rows: 1, Made: made}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Stats(2); err == nil || !strings.Contains(err.Error(), "clean.tar and tf.tar") || !strings.Contains(err.Error(), "not made alike") {
		t.Errorf("%v; want the two shards named", err)
	}
}

func TestDamagedBytes(t *testing.T) {
	pieces, _ := piecesOf(rows(30, 3), 3, 10, 4, true)
	p := New(1 << 20)
	for _, piece := range pieces {
		if err := p.Add(piece); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	one, err := pieces[0].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := new(Partial).UnmarshalBinary(whole[:cut]); err == nil {
			t.Errorf("a partial cut after %d of %d bytes was read", cut, len(whole))
		}
	}
	for cut := range len(one) {
		if err := new(Piece).UnmarshalBinary(one[:cut]); err == nil {
			t.Errorf("a piece cut after %d of %d bytes was read", cut, len(one))
		}
	}
	if new(Partial).UnmarshalBinary(append(bytes.Clone(whole), 0)) == nil || new(Piece).UnmarshalBinary(append(bytes.Clone(one), 0)) == nil {
		t.Error("bytes after the end were accepted")
	}
}
