package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/beam/partial"
	"github.com/fidlab/fidlab/beam/shard"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/tensor"
)

// Finish is the last step: it writes the statistics of each set, and compares.
// Tried again, it writes the same files again.
type Finish struct{ Job Job }

// ProcessElement takes the statistics of all sets.
func (f *Finish) ProcessElement(ctx context.Context, _ string, sets func(*Named) bool) error {
	got := map[string]*partial.Partial{}
	var set Named
	for sets(&set) {
		if got[set.Set] != nil {
			return fmt.Errorf("pipeline: the statistics of %s came twice", set.Set)
		}
		got[set.Set] = set.P
	}
	return Mark(f.Job.finish(ctx, got))
}

func (j *Job) finish(ctx context.Context, got map[string]*partial.Partial) error {
	stats := map[string]*fid.Stats{}
	for _, set := range []struct {
		name   string
		shards int
	}{{Ref, len(j.Ref)}, {Gen, len(j.Gen)}} {
		if set.shards == 0 {
			continue
		}
		p := got[set.name]
		if p == nil {
			return fmt.Errorf("pipeline: no rows of %s arrived; the engine lost them: run the job again", set.name)
		}
		s, err := p.Stats(set.shards)
		if err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		if err := s.Check(); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		if err := j.writeStats(ctx, set.name, s); err != nil {
			return err
		}
		stats[set.name] = s
	}
	if j.RefStats != "" {
		s, err := ReadStats(ctx, j.RefStats)
		if err != nil {
			return err
		}
		stats[Ref] = s
	}
	if stats[Gen] == nil {
		return nil
	}
	res, err := fid.Compare(ctx, stats[Ref], stats[Gen], fid.Options{
		Metrics: j.Metrics, CI: !j.NoCI, Interval: fid.IntervalOptions{Level: j.Level, Seed: j.Seed},
		NearestK: j.NearestK, Force: j.Read.Force, Version: j.Read.Version,
	})
	if err != nil {
		return err
	}
	for _, s := range stats {
		if s.Provenance != nil && s.Provenance.Skipped > 0 {
			res.Skipped = append(res.Skipped, fid.Skipped{Path: s.Provenance.Input, Reason: fmt.Sprintf("%d pictures were left out; the notes name their shards", s.Provenance.Skipped)})
		}
	}
	return j.writeResult(ctx, res)
}

// ReadStats reads a file of statistics wherever it lies.
func ReadStats(ctx context.Context, path string) (*fid.Stats, error) {
	local, done, err := shard.Local(ctx, path)
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := fid.ReadStats(local)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Path is where a job writes one of its files.
func (j *Job) Path(file string) string { return strings.TrimRight(j.Out, "/") + "/" + file }

// StatsPath is where the statistics of a set are written.
func (j *Job) StatsPath(set string) string { return j.Path(fmt.Sprintf(StatsFile, set)) }

// put writes a file to the temporary folder and from there to its place.
func (j *Job) put(ctx context.Context, name string, write func(local string) error) error {
	dir, err := os.MkdirTemp("", "fidlab-out-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	local := filepath.Join(dir, filepath.Base(name))
	if err := write(local); err != nil {
		return err
	}
	return shard.Put(ctx, local, name)
}

func (j *Job) writeStats(ctx context.Context, set string, s *fid.Stats) error {
	return j.put(ctx, j.StatsPath(set), func(local string) error { return fid.WriteStats(local, s, tensor.Overwrite) })
}

func (j *Job) writeResult(ctx context.Context, res *fid.Result) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(res); err != nil {
		return err
	}
	return j.put(ctx, j.Path(ResultFile), func(local string) error { return os.WriteFile(local, b.Bytes(), 0o666) })
}
