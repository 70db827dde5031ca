package data

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/imageio"
)

// Args are what an input of a generated set says: "test?n=1000&from=0&seed=2"
// and the options of the set.
type Args struct {
	Split   Split
	Seed    uint64 // DefaultSeed when not given
	From, N int    // N is −1 when not given: all from From on
	Options map[string]string
}

// ParseArgs reads the part of an input behind the set's name. The split may be
// missing where the caller has it from elsewhere. Options of the set are kept
// for Entry.Open, which refuses unknown ones.
func ParseArgs(set, arg string) (Args, error) {
	name, query, _ := strings.Cut(arg, "?")
	a := Args{Split: Split(name), Seed: DefaultSeed, N: -1, Options: map[string]string{}}
	q, err := url.ParseQuery(query)
	if err != nil {
		return a, Errorf("%s: %s: options: %w", set, arg, err)
	}
	keys := make([]string, 0, len(q))
	for k := range q {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := q[k]
		if len(v) > 1 {
			return a, Errorf("%s: %s: %s is given %d times; give it once", set, arg, k, len(v))
		}
		bad := func(want string) error { return Errorf("%s: %s: %s=%s; want %s", set, arg, k, v[0], want) }
		switch k {
		case "seed":
			if a.Seed, err = strconv.ParseUint(v[0], 10, 64); err != nil {
				return a, bad("a number of at most 64 bits, 0 or more")
			}
		case "from":
			if a.From, err = strconv.Atoi(v[0]); err != nil || a.From < 0 {
				return a, bad("a number, 0 or more")
			}
		case "n":
			if a.N, err = strconv.Atoi(v[0]); err != nil || a.N < 1 {
				return a, bad("a number, at least 1")
			}
		default:
			a.Options[k] = v[0]
		}
	}
	return a, nil
}

// Resolve fills in N and refuses a split or a run of items that s has not.
func (a *Args) Resolve(s Served) error {
	if a.Split == "" {
		return Errorf("%s: no split; want one of the set's, e.g. %s:%s?n=1000", s.Name(), s.Name(), s.Splits()[0])
	}
	if err := CheckSplit(s.Name(), a.Split, s.Splits()); err != nil {
		return err
	}
	size := s.Len(a.Split)
	if a.N < 0 {
		a.N = max(1, size-a.From)
	}
	return CheckRange(s.Name(), a.Split, a.From, a.N, size)
}

// Source makes the opener of an entry's inputs, for imageio.RegisterScheme:
//
//	imageio.RegisterScheme("shapes", data.Source(shapes.Entry))
//
// An item yields its first picture; its label is that of a Labelled set.
func Source(e Entry) func(arg string) (imageio.Source, error) {
	return func(arg string) (imageio.Source, error) {
		a, err := ParseArgs(e.Name, arg)
		if err != nil {
			return nil, err
		}
		s, err := e.Open(a.Seed, a.Options)
		if err != nil {
			return nil, err
		}
		if err := a.Resolve(s); err != nil {
			return nil, err
		}
		it, err := s.Item(a.Split, a.From)
		if err != nil {
			return nil, err
		}
		if len(it.Pictures()) == 0 {
			return nil, Errorf("%s: its items are no pictures; this command wants pictures", e.Name)
		}
		src := &source{arg: arg, set: s, args: a}
		if l, ok := s.(Labelled); ok {
			return &classedSource{src, l.Classes()}, nil
		}
		return src, nil
	}
}

type source struct {
	arg  string
	set  Served
	args Args
}

func (s *source) Describe() string {
	return fmt.Sprintf("%s:%s (%d images)", s.set.Name(), s.arg, s.args.N)
}

func (s *source) Len() int { return s.args.N }

func (s *source) Each(ctx context.Context, yield func(imageio.Item) error) error {
	for i := s.args.From; i < s.args.From+s.args.N; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		label := -1
		if l, ok := s.set.(Labelled); ok {
			label = l.Label(s.args.Split, i)
		}
		item := imageio.Item{
			Name:  fmt.Sprintf("%s:%s/%05d", s.set.Name(), s.args.Split, i),
			Label: label,
			Load: func() (*imageio.Image, error) {
				it, err := s.set.Item(s.args.Split, i)
				if err != nil {
					return nil, err
				}
				return it.Pictures()[0].Image, nil
			},
		}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

// classedSource is a source whose labels have names.
type classedSource struct {
	*source
	classes []string
}

func (s *classedSource) Classes() []string { return s.classes }
