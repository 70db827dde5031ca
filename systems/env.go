package systems

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/gpu"
)

// Env is what a proof runs in. Its zero value computes on the CPU and keeps nothing.
type Env struct {
	Device *gpu.Device
	Store  Store  // of outcomes; nil keeps none
	Build  string // what identifies the program, part of every outcome's key
	// Version of the program, for the record.
	Version string
	// Progress hears of runs done and to do, and of the next one.
	Progress func(done, total int, next string)

	mu       sync.Mutex
	fixtures map[string]opened
	memo     map[string]any
}

type opened struct {
	value any
	sum   string
}

// Fixture is something that several systems stand on: a testbed, a trained
// network, an encoder.
type Fixture struct {
	Name, Text string
	// Open makes or reads it; sum is the SHA-256 of what it is made of.
	Open func(ctx context.Context, env *Env) (value any, sum string, err error)
}

var fixtures = map[string]Fixture{}

// RegisterFixture adds a fixture. It panics when the name is taken.
func RegisterFixture(f Fixture) {
	if _, ok := fixtures[f.Name]; ok {
		panic("systems: RegisterFixture: " + f.Name + " is registered twice")
	}
	fixtures[f.Name] = f
}

// HashError says that a fixture is not the one that a recipe was made for.
type HashError struct{ Fixture, Got, Want string }

func (e *HashError) Error() string {
	return fmt.Sprintf("systems: fixture %s has SHA-256 %s; the recipe was made for %s: restore the one it names, or measure the recipe anew and change its hash", e.Fixture, e.Got, e.Want)
}

// Use is the fixture of that name, opened once; the recipe's Plan and the arms
// ask for it. It panics when it is of another type than T.
func Use[T any](ctx context.Context, env *Env, name string) (T, error) {
	o, err := env.open(ctx, name)
	if err != nil {
		var none T
		return none, err
	}
	v, ok := o.value.(T)
	if !ok {
		panic(fmt.Sprintf("systems: fixture %s is a %T, not a %T", name, o.value, v))
	}
	return v, nil
}

func (env *Env) open(ctx context.Context, name string) (opened, error) {
	env.mu.Lock()
	defer env.mu.Unlock()
	if o, ok := env.fixtures[name]; ok {
		return o, nil
	}
	f, ok := fixtures[name]
	if !ok {
		return opened{}, fmt.Errorf("systems: no fixture %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(fixtures)), " "))
	}
	v, sum, err := f.Open(ctx, env)
	if err != nil {
		return opened{}, fmt.Errorf("systems: fixture %s: %w", name, err)
	}
	if env.fixtures == nil {
		env.fixtures = map[string]opened{}
	}
	env.fixtures[name] = opened{v, sum}
	return env.fixtures[name], nil
}

// Memo computes something once in an Env, such as the exact end of a seed's
// noise, which several arms compare themselves with. key must name all that it
// depends on.
func Memo[T any](env *Env, key string, f func() (T, error)) (T, error) {
	env.mu.Lock()
	v, ok := env.memo[key]
	env.mu.Unlock()
	if ok {
		return v.(T), nil
	}
	t, err := f()
	if err != nil {
		return t, err
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	if env.memo == nil {
		env.memo = map[string]any{}
	}
	env.memo[key] = t
	return t, nil
}

// device is where states live.
func (env *Env) device() *gpu.Device {
	if env.Device == nil {
		return gpu.CPU()
	}
	return env.Device
}
