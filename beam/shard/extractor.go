package shard

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// Config says how pictures become feature vectors, as the flags of fidlab fid do.
type Config struct {
	Features  string // NAME or NAME:TAP
	Preset    string
	Weights   string // "" is searched on each worker
	Precision string // "" is fp32
	Column    string // of Parquet tables; "" is found
	SkipBad   bool
	Force     bool
	Version   string // of this program, for the provenance
}

// Check refuses what no worker could do, before a job begins.
func (c *Config) Check() error {
	name, _, _ := strings.Cut(c.Features, ":")
	if _, ok := extract.Find(name); !ok {
		var names []string
		for _, e := range extract.List() {
			names = append(names, e.Name)
		}
		return fmt.Errorf("no extractor %q; there are %s", name, strings.Join(names, ", "))
	}
	if name == "identity" {
		return fmt.Errorf("extractor %q needs the size of the pictures beforehand, which shards do not tell; use pixels or another one", name)
	}
	_, err := c.precision()
	return err
}

func (c *Config) precision() (plan.Precision, error) {
	if c.Precision == "" {
		return plan.F32, nil
	}
	for _, p := range []plan.Precision{plan.F32, plan.BF16, plan.SplitBF16} {
		if p.String() == c.Precision {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no precision %q; there are fp32, bf16 and bf16x3", c.Precision)
}

// The extractors of this process: a worker has many bundles, and a network's
// memory should be there once.
var (
	opened   = map[Config]*lazyExtractor{}
	openedMu sync.Mutex
)

type lazyExtractor struct {
	once sync.Once
	ex   fid.Extractor
	err  error
}

// extractor opens the extractor, or gives the one that this process has.
func (c *Config) extractor(ctx context.Context) (fid.Extractor, error) {
	key := *c
	key.Column, key.SkipBad, key.Version = "", false, ""
	openedMu.Lock()
	l := opened[key]
	if l == nil {
		l = new(lazyExtractor)
		opened[key] = l
	}
	openedMu.Unlock()
	l.once.Do(func() { l.ex, l.err = c.open(ctx) })
	if l.err != nil { // a worker that cannot read its weights now may do so later
		openedMu.Lock()
		delete(opened, key)
		openedMu.Unlock()
	}
	return l.ex, l.err
}

func (c *Config) open(ctx context.Context) (fid.Extractor, error) {
	name, tap, _ := strings.Cut(c.Features, ":")
	precision, err := c.precision()
	if err != nil {
		return nil, err
	}
	if err := plan.Available(precision); err != nil {
		return nil, fmt.Errorf("precision %s: %w", precision, err)
	}
	o := extract.Options{Preset: c.Preset, Tap: tap, Precision: precision, Force: c.Force}
	if c.Weights != "" {
		local, done, err := Local(ctx, c.Weights)
		if err != nil {
			return nil, err
		}
		defer done() // all of it is read while the extractor is opened
		o.Weights = local
	}
	ex, err := extract.Open(name, o)
	if err != nil {
		return nil, inputf("%w", err)
	}
	if d := ex.Info().Dim; d > maxDim {
		return nil, inputf("%s makes %d features; at most %d are accepted", c.Features, d, maxDim)
	}
	return ex, nil
}
