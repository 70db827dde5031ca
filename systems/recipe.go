package systems

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tier is how thorough a proof is.
type Tier uint8

// The tiers. Tiny shows that the machinery works, Short gives an idea within a
// minute, Full is what counts.
const (
	Tiny Tier = iota
	Short
	Full
)

var tierNames = []string{"tiny", "short", "full"}

func (t Tier) String() string { return tierNames[t] }

// TierByName is the inverse of String.
func TierByName(name string) (Tier, error) {
	if i := slices.Index(tierNames, name); i >= 0 {
		return Tier(i), nil
	}
	return 0, fmt.Errorf("systems: tier %q; wanted one of %s", name, strings.Join(tierNames, ", "))
}

// Recipe is a paper's system on one screen.
type Recipe struct {
	Name    string   // of its package
	Aliases []string // other names that it goes by
	Number  int      // in the catalog
	Source  string   // authors, year, arXiv number or venue
	Idea    string   // what it does, in a sentence or two
	// Needs are the fixtures that the plan takes, with the SHA-256 that each must
	// have; "" accepts any.
	Needs map[string]string
	// Headline is the criterion that stands for the whole in a list, as
	// "experiment/criterion".
	Headline string
	// Plan makes the experiments of a tier.
	Plan func(ctx context.Context, env *Env, tier Tier) ([]Experiment, error)
	// Parts are what the plan has besides where certain fixtures are here.
	Parts []Part
	// Figures are drawn from the record.
	Figures []Figure
	// Remark is what a reader must know beside the verdict, in a line.
	Remark string
	// Sheets are the experiments whose samples are shown beside the record.
	Sheets []string
	// Open lists what of the paper is not shown here, and why.
	Open []string
}

var recipes = map[int]Recipe{}

// Register adds a recipe; packages of systems call it once, from init. It panics
// when the number is not in the catalog or taken, or the name is another there.
func Register(r Recipe) {
	e, ok := entry(r.Number)
	if !ok || e.Name != r.Name {
		panic(fmt.Sprintf("systems: Register: %d %q is not in the catalog, which has %q there", r.Number, r.Name, e.Name))
	}
	if _, ok := recipes[r.Number]; ok {
		panic(fmt.Sprintf("systems: Register: %d %s is registered twice", r.Number, r.Name))
	}
	if r.Plan == nil {
		panic(fmt.Sprintf("systems: Register: %s has no plan", r.Name))
	}
	recipes[r.Number] = r
}

// Recipes are the registered ones by number.
func Recipes() []Recipe {
	var out []Recipe
	for _, e := range Catalog() {
		if r, ok := recipes[e.Number]; ok {
			out = append(out, r)
		}
	}
	return out
}

// NotBuiltError says that a system stands in the catalog only.
type NotBuiltError struct{ Entry Entry }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("systems: %02d %s (%s) is not built yet; fidlab systems lists those that are", e.Entry.Number, e.Entry.Name, e.Entry.Title)
}

// UnknownError says that no system has that name or number.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("systems: no system %q; there are: %s", e.Name, strings.Join(e.Known, " "))
}

// Find is the recipe with that name, alias or number. The error is an
// *UnknownError or a *NotBuiltError.
func Find(name string) (Recipe, error) {
	n, err := strconv.Atoi(name)
	if err != nil {
		n = -1
	}
	var known []string
	for _, e := range Catalog() {
		r, built := recipes[e.Number]
		if e.Number == n || e.Name == name || slices.Contains(r.Aliases, name) {
			if !built {
				return Recipe{}, &NotBuiltError{e}
			}
			return r, nil
		}
		known = append(known, e.Name)
	}
	return Recipe{}, &UnknownError{name, known}
}
