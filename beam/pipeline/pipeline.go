// Package pipeline is fidlab's comparison of two sets as a pipeline of Apache
// Beam: shards are spread over the workers, each worker extracts the features of
// whole shards, a combiner joins them to the statistics of each set (package
// partial), and one step writes the statistics and compares.
//
// A bundle that fails leaves nothing behind when it is tried again: a shard's
// rows are a function of the shard alone, carry its number and their place, and
// the combiner refuses rows that come twice and sets that are not whole.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/beam/shard"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
)

// The sets of a job.
const (
	Ref = "ref"
	Gen = "gen"
)

// Job says what to compute; all of it travels to the workers.
type Job struct {
	Ref, Gen []string // shards in their order; Gen may be empty: statistics of Ref alone
	RefStats string   // a file of statistics in place of Ref
	Out      string   // folder or prefix of a store for the files
	Keep     int64    // bytes of feature vectors kept of each set
	// Lanes are the steps among which the shards are dealt out, 1 where it is 0. Prism makes one bundle of all shards of a
	// step, and takes steps side by side; other runners spread the shards of one step.
	Lanes    int
	Read     shard.Config
	Metrics  []string
	NearestK int
	NoCI     bool
	Level    float64 // of the interval; 0 is 0.95
	Seed     uint64
}

// Files that a job writes below Job.Out.
const (
	ResultFile = "result.json"
	StatsFile  = "%s.npz" // of a set
)

// Check refuses a job that could not end well, before it begins.
func (j *Job) Check() error {
	if len(j.Ref) == 0 == (j.RefStats == "") {
		return errors.New("pipeline: a job has shards of the reference or a file of its statistics, and not both")
	}
	if j.RefStats != "" && len(j.Gen) == 0 {
		return errors.New("pipeline: statistics alone are nothing to compute; give shards")
	}
	if j.Out == "" {
		return errors.New("pipeline: no place for the results")
	}
	if j.Keep < 0 || j.Lanes < 0 || j.NearestK < 0 || j.Level < 0 || j.Level >= 1 {
		return fmt.Errorf("pipeline: keep %d, lanes %d, nearest-k %d, level %g: want 0 or more, the level below 1", j.Keep, j.Lanes, j.NearestK, j.Level)
	}
	if err := j.checkMetrics(); err != nil {
		return err
	}
	return j.Read.Check()
}

// checkMetrics refuses those that need more than features: a classifier's answers, maps, a test set.
func (j *Job) checkMetrics() error {
	if err := fid.CheckMetrics(j.Metrics); err != nil {
		return err
	}
	for _, m := range j.Metrics {
		if parts := fid.NeedParts([]string{m}); len(parts) > 0 {
			return fmt.Errorf("pipeline: metric %s needs %s of every picture, which shards do not give; use fidlab fid", m, strings.Join(parts, ", "))
		}
		if len(fid.NeedTest([]string{m})) > 0 {
			return fmt.Errorf("pipeline: metric %s needs a test set; use fidlab fid", m)
		}
	}
	return nil
}

// Build makes the pipeline of a job.
func Build(s beam.Scope, j Job) {
	var shards []shard.Shard
	for _, set := range []struct {
		name  string
		paths []string
	}{{Ref, j.Ref}, {Gen, j.Gen}} {
		for i, path := range set.paths {
			shards = append(shards, shard.Shard{Set: set.name, Index: i, Path: path})
		}
	}
	lanes := max(1, min(j.Lanes, len(shards)))
	pieces := make([]beam.PCollection, lanes)
	for k := range lanes {
		var own []shard.Shard
		for i := k; i < len(shards); i += lanes {
			own = append(own, shards[i])
		}
		lane := s.Scope(fmt.Sprintf("Lane %d", k+1))
		paths := beam.Reshuffle(lane.Scope("Shards"), beam.CreateList(lane, own))
		pieces[k] = beam.ParDo(lane.Scope("Features"), &Extract{Read: j.Read}, paths)
	}
	all := pieces[0]
	if lanes > 1 {
		all = beam.Flatten(s, pieces...)
	}
	sets := beam.CombinePerKey(s.Scope("Statistics"), &Gather{Keep: j.Keep}, all)
	// All sets under one key, and not as a side input: for that the SDK opens one more connection, within 15 seconds or never.
	one := beam.GroupByKey(s, beam.ParDo(s.Scope("Sets"), nameSet, sets))
	beam.ParDo0(s.Scope("Metrics"), &Finish{Job: j}, one)
}

// Named is the statistics of a set with its name.
type Named struct {
	Set string
	P   *partial.Partial
}

func nameSet(set string, g Gathered) (string, Named) { return "", Named{set, g.P} }

// onShard is for tests: where it is set, it is called before a shard is read, with 0, and after each piece, with their number.
var onShard atomic.Pointer[func(context.Context, shard.Shard, int) error]

func atShard(ctx context.Context, s shard.Shard, pieces int) error {
	if f := onShard.Load(); f != nil {
		return (*f)(ctx, s, pieces)
	}
	return nil
}

// Extract reads shards: its elements are their pieces by set.
type Extract struct{ Read shard.Config }

// ProcessElement reads one shard.
func (f *Extract) ProcessElement(ctx context.Context, s shard.Shard, emit func(string, partial.Piece)) error {
	err := atShard(ctx, s, 0)
	if err == nil {
		n := 0
		err = shard.Read(ctx, s, f.Read, func(p partial.Piece) error {
			emit(s.Set, p)
			n++
			return atShard(ctx, s, n)
		})
	}
	if err != nil {
		return Mark(fmt.Errorf("%s, shard %d: %w", s.Set, s.Index, err))
	}
	return nil
}

// Gathered is a Partial on its way between workers.
type Gathered struct{ P *partial.Partial }

// Gather is the combiner: pieces of a set to its statistics.
type Gather struct{ Keep int64 }

// CreateAccumulator is an empty Partial.
func (f *Gather) CreateAccumulator() Gathered { return Gathered{partial.New(f.Keep)} }

// AddInput adds a piece.
func (f *Gather) AddInput(a Gathered, p partial.Piece) (Gathered, error) {
	return a, Mark(a.P.Add(p))
}

// MergeAccumulators adds b to a.
func (f *Gather) MergeAccumulators(a, b Gathered) (Gathered, error) {
	return a, Mark(a.P.Merge(b.P))
}

// ExtractOutput is the Partial of all pieces of the set.
func (f *Gather) ExtractOutput(a Gathered) Gathered { return a }

// Errors cross from worker to launcher as text. These marks in it tell what kind they are.
const (
	markInput   = "bad input: "
	markRefused = "refused: "
)

// Mark puts the kind of an error before its text.
func Mark(err error) error {
	var (
		input   *shard.InputError
		bad     *fid.BadInputError
		means   *fid.NumericError
		refused *shard.NumericError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &means), errors.As(err, &refused):
		return fmt.Errorf("%s%w", markRefused, err)
	case errors.As(err, &input), errors.As(err, &bad), errors.Is(err, imageio.ErrInput):
		return fmt.Errorf("%s%w", markInput, err)
	}
	return err
}

// ExitCode is the program's exit code for a job's error, as fidlab's commands have them.
func ExitCode(err error) int {
	var (
		input *shard.InputError
		bad   *fid.BadInputError
		means *fid.NumericError
	)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return 130
	case errors.As(err, &means), strings.Contains(err.Error(), markRefused):
		return 4
	case errors.As(err, &input), errors.As(err, &bad), errors.Is(err, imageio.ErrInput), strings.Contains(err.Error(), markInput):
		return 3
	}
	return 1
}
