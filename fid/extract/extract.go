package extract

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
)

// Options of Open. The zero value asks for each extractor's defaults.
type Options struct {
	Preset string // how pictures are resized and scaled; see Presets
	// Parts are what to extract in the same pass: fid.PartLogits of a classifier,
	// fid.PartSpatial of the Inception network.
	Parts     []string
	Tap       string         // of the Inception network a key of Taps, default "2048"; of others see their entries
	Precision plan.Precision // default fp32; what this machine can't do is an error
	Weights   string         // a weights file; "" searches, see FindInception
	Force     bool           // take a weights file although its hash is not the published one
	Salt      string         // of the random weights
	Width     int            // of the pictures, for "identity" only
	Height    int
	Batch     int                 // images per call, default plan.DefaultBatch
	Device    *gpu.Device         // where the network runs; nil is the CPU. Extractors that have no GPU code run on the CPU: see fid.Placed
	Pure      bool                // compute in pure Go even where a native plan is possible
	Getenv    func(string) string // default os.Getenv
}

// Entry describes an extractor that Open knows.
type Entry struct {
	Name    string
	Summary string // one line
	Source  string // where the definition comes from
	Needs   string // what must be there to use it, e.g. a weights file; "" for nothing
	// Presets are the names that Options.Preset may have, the default first; nil for those of the Inception network.
	Presets []string
	// CheckTap says what is wrong with a tap that is not ""; nil for the taps of the Inception network.
	CheckTap func(tap string) error
	Open     func(Options) (fid.Extractor, error)
}

var (
	mu      sync.Mutex
	entries = map[string]Entry{}
)

// Register makes an extractor known under its name. It panics when the name is taken.
func Register(e Entry) {
	mu.Lock()
	defer mu.Unlock()
	if _, taken := entries[e.Name]; taken || e.Name == "" || e.Open == nil {
		panic(fmt.Sprintf("extract: Register: %q is taken, nameless or cannot be opened", e.Name))
	}
	entries[e.Name] = e
}

// List returns the known extractors by name.
func List() []Entry {
	mu.Lock()
	defer mu.Unlock()
	var all []Entry
	for _, e := range entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Find returns the entry with the given name.
func Find(name string) (Entry, bool) {
	mu.Lock()
	defer mu.Unlock()
	e, ok := entries[name]
	return e, ok
}

// Open makes the extractor with the given name.
func Open(name string, o Options) (fid.Extractor, error) {
	e, ok := Find(name)
	if !ok {
		var names []string
		for _, e := range List() {
			names = append(names, e.Name)
		}
		return nil, fmt.Errorf("extract: no extractor %q; there are %s", name, strings.Join(names, ", "))
	}
	x, err := e.Open(o)
	if err != nil {
		return nil, fmt.Errorf("extract: %s: %w", name, err)
	}
	return x, nil
}
