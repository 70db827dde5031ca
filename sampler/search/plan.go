package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/sampler"
	"github.com/fidlab/fidlab/tensor"
)

// Setting is what a plan was found for, and what it should be used with.
type Setting struct {
	Path       string `json:"path"`            // name of the path, as diffusion.PathByName has it
	Schedule   string `json:"schedule_sha256"` // Levels.Hash
	T          int    `json:"T"`               // levels
	Prediction string `json:"prediction"`      // what the network predicts: "eps", "x0", …
	Guidance   string `json:"guidance"`        // rule and weight in words, "" without
	Sampler    string `json:"sampler"`
	Model      string `json:"model"`
	ModelHash  string `json:"model_sha256"`
}

// Measured is a Fréchet distance; only those of equally many samples compare.
type Measured struct {
	Distance float64 `json:"distance"`
	N        int     `json:"n"`
	Seed     uint64  `json:"seed"`
}

// Record says how a plan was found.
type Record struct {
	Reference   string    `json:"reference"`
	Features    string    `json:"features"`
	Seed        uint64    `json:"seed"`
	Evaluations int       `json:"evaluations"`
	Search      Measured  `json:"search"`
	Held        *Measured `json:"held,omitempty"` // with other noise
}

// Plan is a choice as a file: the steps of a sampler, and the layers that each
// leaves out. Lists begin with the noisiest step. Other tools take times as it is.
type Plan struct {
	Format string `json:"format"`
	Setting
	Times  []float64  `json:"times"`            // what the network is told
	Steps  []int      `json:"steps"`            // numbers of the levels, from the least noise
	Layers []string   `json:"layers,omitempty"` // all of the network's
	Skips  [][]string `json:"skips,omitempty"`  // of each step
	// Start is "unit" where samples start from unit noise whatever the first level is
	// (sampler.Options.UnitStart), "" where they start from noise scaled to it.
	Start string `json:"start,omitempty"`
	// Record is nil in a plan that was written by hand.
	Record  *Record `json:"search,omitempty"`
	Version string  `json:"version,omitempty"`
}

// UnitStart is the Start of plans that begin with unit noise.
const UnitStart = "unit"

const (
	planFormat = "fidlab plan 1"
	maxPlan    = 1 << 24 // bytes
)

// NewPlan is the plan of a choice. layers are the network's, nil for a choice without skips.
func NewPlan(c Choice, l *Levels, layers []string, s Setting) (*Plan, error) {
	if err := checkSteps(c.Steps, l.Len()); err != nil {
		return nil, err
	}
	if s.Path == "" {
		s.Path = l.Path.Name()
	}
	s.Schedule, s.T = l.Hash(), l.Len()
	p := &Plan{Format: planFormat, Setting: s, Steps: slices.Clone(c.Steps)}
	slices.Reverse(p.Steps)
	p.Times = l.Times(p.Steps)
	if c.Executed(len(layers)) != len(layers)*len(c.Steps) {
		p.Layers = layers
		for i := len(c.Skips) - 1; i >= 0; i-- {
			names := []string{}
			for _, k := range c.Skips[i] {
				if k < 0 || k >= len(layers) {
					return nil, fmt.Errorf("search: step %d leaves out layer %d of %d", i, k, len(layers))
				}
				names = append(names, layers[k])
			}
			p.Skips = append(p.Skips, names)
		}
	}
	return p, p.check()
}

// check refuses what no sampler can follow.
func (p *Plan) check() error {
	if p.Format != planFormat {
		return fmt.Errorf("search: plan: its format is %q; wanted %q", p.Format, planFormat)
	}
	if p.Start != "" && p.Start != UnitStart {
		return fmt.Errorf("search: plan: its start is %q; wanted %q or none", p.Start, UnitStart)
	}
	rising := slices.Clone(p.Steps)
	slices.Reverse(rising)
	if !slices.IsSorted(rising) {
		return fmt.Errorf("search: plan: its steps are at the levels %v; wanted the noisiest first, falling", p.Steps)
	}
	if err := checkSteps(rising, p.T); err != nil {
		return err
	}
	if len(p.Times) != len(p.Steps) {
		return fmt.Errorf("search: plan: %d times for %d steps; wanted one each", len(p.Times), len(p.Steps))
	}
	if p.Skips == nil {
		return nil
	}
	if len(p.Skips) != len(p.Steps) {
		return fmt.Errorf("search: plan: layers to leave out in %d steps of %d; wanted a list for each", len(p.Skips), len(p.Steps))
	}
	for i, names := range p.Skips {
		for j, n := range names {
			if !slices.Contains(p.Layers, n) {
				return fmt.Errorf("search: plan: step %d leaves out layer %q, which is not among its layers", i, n)
			}
			if slices.Contains(names[:j], n) {
				return fmt.Errorf("search: plan: step %d leaves out layer %q twice", i, n)
			}
		}
	}
	return nil
}

// Write writes the plan as a JSON file.
func (p *Plan) Write(path string, opt ...tensor.FileOption) error {
	if err := p.check(); err != nil {
		return err
	}
	return tensor.WriteAtomic(path, func(w io.Writer) error { return report.WriteJSON(w, p) }, opt...)
}

// ReadPlan reads what Write has written. Unknown fields are refused: a misspelt
// "skips" would change what is drawn.
func ReadPlan(path string) (*Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("search: plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPlan+1))
	if err != nil {
		return nil, fmt.Errorf("search: plan: %w", err)
	}
	if len(b) > maxPlan {
		return nil, fmt.Errorf("search: %s: more than %d bytes; a plan has fewer", path, maxPlan)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	p := new(Plan)
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("search: %s: no plan: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("search: %s: something follows the plan's closing brace", path)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// ErrOther is inside the error of a plan that was found for another setting.
var ErrOther = errors.New("the plan was found for another setting")

// Fits refuses a setting other than the plan's, naming all that differs, with an
// error around ErrOther.
func (p *Plan) Fits(s Setting) error {
	var diff []string
	differ := func(what, plan, now string) {
		if plan != now {
			diff = append(diff, fmt.Sprintf("%s is %s, the plan's %s", what, orNone(now), orNone(plan)))
		}
	}
	if p.T != s.T {
		diff = append(diff, fmt.Sprintf("the number of levels is %d, the plan's %d", s.T, p.T))
	}
	if p.Schedule != s.Schedule {
		diff = append(diff, fmt.Sprintf("the schedule is %s %.8s, the plan's %s %.8s", s.Path, s.Schedule, p.Path, p.Schedule))
	}
	differ("the network's prediction", p.Prediction, s.Prediction)
	differ("guidance", p.Guidance, s.Guidance)
	differ("the sampler", p.Sampler, s.Sampler)
	if p.ModelHash != s.ModelHash {
		diff = append(diff, fmt.Sprintf("the model is %s %.8s, the plan's %s %.8s", s.Model, s.ModelHash, p.Model, p.ModelHash))
	}
	if diff == nil {
		return nil
	}
	return fmt.Errorf("search: %w: %s", ErrOther, strings.Join(diff, "; "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Grid is the plan's grid on levels, which may be others than it was found for.
func (p *Plan) Grid(l *Levels) (*diffusion.Grid, error) {
	rising := slices.Clone(p.Steps)
	slices.Reverse(rising)
	return l.Grid(rising)
}

// Wrap is den with the plan's layers left out; den itself where it leaves out
// none. It refuses denoisers without named layers, or with others than the plan's.
func (p *Plan) Wrap(den sampler.Denoiser) (sampler.Denoiser, error) {
	if p.Skips == nil {
		return den, nil
	}
	layered, ok := den.(sampler.Layered)
	if ok && !slices.Equal(layered.Layers(), p.Layers) {
		return nil, fmt.Errorf("search: the plan leaves out layers of a network of %d, from %s to %s; this one has %d, from %s to %s",
			len(p.Layers), p.Layers[0], p.Layers[len(p.Layers)-1], len(layered.Layers()), layered.Layers()[0], layered.Layers()[len(layered.Layers())-1])
	}
	c := Choice{Steps: p.Steps, Skips: make([][]int, len(p.Skips))}
	for i, names := range p.Skips {
		skip := []int{}
		for _, n := range names {
			skip = append(skip, slices.Index(p.Layers, n))
		}
		slices.Sort(skip)
		c.Skips[len(p.Skips)-1-i] = skip
	}
	out, _, err := Without(den, c)
	if err != nil {
		return nil, err
	}
	return out, nil
}
