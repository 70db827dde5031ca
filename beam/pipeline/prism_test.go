package pipeline

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/local"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/beam/shard"
	"github.com/fidlab/fidlab/fid"
)

func TestMain(m *testing.M) {
	flag.Parse()
	beam.Init()
	os.Exit(m.Run())
}

// onPrism runs a job on the runner that is embedded in the SDK.
func onPrism(j Job) error {
	if err := j.Check(); err != nil {
		return err
	}
	p, s := beam.NewPipelineWithRoot()
	Build(s, j)
	_, err := prism.Execute(context.Background(), p)
	return err
}

// hook replaces onShard while a test runs.
func hook(t *testing.T, f func(ctx context.Context, s shard.Shard, pieces int) error) {
	t.Helper()
	before := onShard.Swap(&f) // bundles of a job that failed may still run when the test is over
	t.Cleanup(func() { onShard.Store(before) })
}

// together holds the first n shards back until n of them are in work at once, so that a run has n bundles, of n lanes, side by side or
// never ends.
func together(t *testing.T, n int) {
	t.Helper()
	var mu sync.Mutex
	waiting := 0
	all := make(chan struct{})
	hook(t, func(ctx context.Context, _ shard.Shard, pieces int) error {
		if pieces > 0 {
			return nil
		}
		mu.Lock()
		if waiting++; waiting == n {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	t.Cleanup(func() {
		if waiting < n {
			t.Errorf("%d shards were read, want %d at once", waiting, n)
		}
	})
}

// TestPrismFeatures: shards of vectors, three in work at once; the moments alone, and with the vectors kept.
func TestPrismFeatures(t *testing.T) {
	const d = 16
	x, y := vectors(900, d, 1), vectors(700, d, 2)
	ref, gen := featureShards(t, x, d, 4), featureShards(t, y, d, 3)
	wantRef, wantGen := ofVectors(t, x, d), ofVectors(t, y, d)
	want := compare(t, wantRef, wantGen)
	for _, keep := range []int64{0, 1 << 20} {
		together(t, 3)
		j := job(t, ref, gen, keep)
		if err := onPrism(j); err != nil {
			t.Fatal(err)
		}
		got := read(t, j)
		sameStats(t, "ref", got.ref, wantRef)
		sameStats(t, "gen", got.gen, wantGen)
		if e := math.Abs(got.fid.Value/want.Value - 1); !(e < 1e-10) {
			t.Errorf("keep %d: FID %.17g, in one process %.17g", keep, got.fid.Value, want.Value)
		}
		if keep > 0 && !reflect.DeepEqual(got.fid, want) {
			t.Errorf("with the vectors kept: %+v, in one process %+v", got.fid, want)
		}
		if keep == 0 && (got.fid.CI != nil || !strings.Contains(strings.Join(got.notes, "\n"), "no confidence interval")) {
			t.Errorf("without vectors: interval %v, notes %q", got.fid.CI, got.notes)
		}
	}
}

// TestPrismImages: tars of pictures through an extractor. There are fewer pictures than features, which keeps the vectors whatever keep says.
func TestPrismImages(t *testing.T) {
	together(t, 3)
	ref, refFolder := imageShards(t, 60, 3, 1)
	gen, genFolder := imageShards(t, 50, 4, 9)
	want := compare(t, ofFolder(t, refFolder), ofFolder(t, genFolder))
	j := job(t, ref, gen, 0)
	if err := onPrism(j); err != nil {
		t.Fatal(err)
	}
	got := read(t, j)
	if !reflect.DeepEqual(got.fid, want) {
		t.Errorf("%+v, in one process %+v", got.fid, want)
	}
	p := got.gen.Provenance
	if p == nil || p.Extractor.Name != "pixels" || !strings.HasPrefix(p.Input, "4 shards, ") || p.Version != "test" {
		t.Errorf("provenance %+v", p)
	}
	// The reference's statistics in place of its shards.
	k := job(t, nil, gen, 0)
	k.RefStats = j.StatsPath(Ref)
	if err := onPrism(k); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(k.StatsPath(Gen))
	first, err2 := os.ReadFile(j.StatsPath(Gen))
	if err != nil || err2 != nil || !bytes.Equal(again, first) {
		t.Errorf("a second run wrote other statistics (%v, %v)", err, err2)
	}
}

// TestPrismFailure: Prism tries no bundle twice, it ends the job. The error names the shard, nothing is written, and the job run again
// gives what it would have given.
func TestPrismFailure(t *testing.T) {
	const d = 8
	x, y := vectors(300, d, 3), vectors(200, d, 4)
	ref, gen := featureShards(t, x, d, 3), featureShards(t, y, d, 3)
	clean := job(t, ref, gen, 1<<20)
	if err := onPrism(clean); err != nil {
		t.Fatal(err)
	}
	j := job(t, ref, gen, 1<<20)
	var failed atomic.Bool
	hook(t, func(_ context.Context, s shard.Shard, pieces int) error {
		if s.Path == gen[1] && pieces == 1 && failed.CompareAndSwap(false, true) { // its rows are already in the bundle's accumulator
			return errors.New("the worker stumbled")
		}
		return nil
	})
	err := onPrism(j)
	if err == nil || !strings.Contains(err.Error(), gen[1]) || !strings.Contains(err.Error(), "the worker stumbled") || ExitCode(err) != 1 {
		t.Fatalf("%v; want the shard and the reason", err)
	}
	if left, err := os.ReadDir(j.Out); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if err := onPrism(j); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, j).raw, read(t, clean).raw) {
		t.Error("after a failure the statistics are other bytes")
	}
}

// TestPrismBadShard: what is wrong with the data crosses from worker to launcher as such.
func TestPrismBadShard(t *testing.T) {
	x := vectors(40, 4, 5)
	good := featureShards(t, x, 4, 2)
	other := featureShards(t, vectors(40, 5, 5), 5, 1)
	x[17] = float32(math.NaN())
	bad := featureShards(t, x, 4, 1)
	broken := good[0] + ".tar"
	if err := os.WriteFile(broken, []byte("no tar"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gen  []string
		code int
		want string
	}{
		{[]string{good[0], broken}, 3, broken},
		{bad, 4, "feature 1 of row 4 is not finite"},
		{[]string{good[0], other[0]}, 1, "features a row"},
	} {
		err := onPrism(job(t, good, c.gen, 0))
		if err == nil || !strings.Contains(err.Error(), c.want) || ExitCode(err) != c.code {
			t.Errorf("%v: exit code %d, want %d with %q", err, ExitCode(err), c.code, c.want)
		}
	}
}

// TestRetriedBundles does by hand what a runner that retries does, with the pipeline's own steps and coders: a bundle that failed is
// thrown away with its accumulator and done again, on another machine.
func TestRetriedBundles(t *testing.T) {
	ctx := context.Background()
	ref, _ := imageShards(t, 40, 4, 1)
	var tries map[string]int
	hook(t, func(_ context.Context, s shard.Shard, pieces int) error {
		if tries == nil || pieces == 0 {
			return nil
		}
		if tries[s.Path]++; tries[s.Path] == 1 {
			return errors.New("fails once")
		}
		return nil
	})
	gather := &Gather{}
	bundle := func(s shard.Shard) (Gathered, error) {
		acc := gather.CreateAccumulator()
		var failed error
		err := (&Extract{Read: shard.Config{Features: "pixels"}}).ProcessElement(ctx, s, func(_ string, p partial.Piece) {
			b, err := encodePiece(p)
			if err == nil {
				p, err = decodePiece(b)
			}
			if err == nil {
				acc, err = gather.AddInput(acc, p)
			}
			failed = errors.Join(failed, err)
		})
		return acc, errors.Join(err, failed)
	}
	run := func() *fid.Stats {
		all := gather.CreateAccumulator()
		for i := len(ref) - 1; i >= 0; i-- {
			s := shard.Shard{Set: Ref, Index: i, Path: ref[i]}
			acc, err := bundle(s)
			if tries != nil {
				if err == nil {
					t.Fatalf("%s did not fail at the first try", s.Path)
				}
				acc, err = bundle(s)
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := encodeGathered(acc)
			if err == nil {
				acc, err = decodeGathered(b)
			}
			if err == nil {
				all, err = gather.MergeAccumulators(all, acc)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := gather.ExtractOutput(all).P.Stats(len(ref))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := run()
	tries = map[string]int{}
	if !reflect.DeepEqual(run(), want) {
		t.Error("retries changed the statistics")
	}
}

func TestJobCheck(t *testing.T) {
	good := Job{Ref: []string{"a"}, Gen: []string{"b"}, Out: "out", Read: shard.Config{Features: "pixels"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Job){
		"not both":             func(j *Job) { j.RefStats = "s.npz" },
		"shards of the ref":    func(j *Job) { j.Ref = nil },
		"nothing to compute":   func(j *Job) { j.Ref, j.Gen, j.RefStats = nil, nil, "s.npz" },
		"no place":             func(j *Job) { j.Out = "" },
		"want 0 or more":       func(j *Job) { j.Keep = -1 },
		"lanes -2":             func(j *Job) { j.Lanes = -2 },
		"unknown metric":       func(j *Job) { j.Metrics = []string{"fdi"} },
		"needs spatial":        func(j *Job) { j.Metrics = []string{"sfid"} },
		"metric fdr needs":     func(j *Job) { j.Metrics = []string{"fdr"} },
		`no extractor "pixel"`: func(j *Job) { j.Read.Features = "pixel" },
	} {
		j := good
		change(&j)
		if err := j.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
