package mnist

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/imageio"
)

// Source opens the pictures that arg names, in the order of the files: "train"
// or "test", then options after a question mark: class=3 keeps one digit,
// from=1000 leaves out the first thousand (of those kept), n=500 takes so many
// of the rest. Gray is repeated in the three channels. Asking for more than
// there is is an error.
func Source(arg string) (imageio.Source, error) {
	name, query, _ := strings.Cut(arg, "?")
	if name != string(Train) && name != string(Test) {
		return nil, fmt.Errorf("mnist: no split %q; wanted train or test, e.g. mnist:test?n=1000", name)
	}
	o, err := parseOptions(query)
	if err != nil {
		return nil, fmt.Errorf("mnist: %s: %w", arg, err)
	}
	set, err := Load(Split(name))
	if err != nil {
		return nil, err
	}
	idx, err := o.choose(set.Labels)
	if err != nil {
		return nil, fmt.Errorf("mnist: %s: %w", arg, err)
	}
	return &source{arg: arg, set: set, idx: idx}, nil
}

type options struct{ class, from, n int } // -1: not given

func parseOptions(query string) (options, error) {
	o := options{class: -1, n: -1}
	q, err := url.ParseQuery(query)
	if err != nil {
		return o, fmt.Errorf("options: %w", err)
	}
	into := map[string]*int{"class": &o.class, "from": &o.from, "n": &o.n}
	for key, vals := range q {
		p := into[key]
		if p == nil {
			return o, fmt.Errorf("no option %q; there are class, from and n", key)
		}
		v, err := strconv.Atoi(vals[len(vals)-1])
		if err != nil || v < 0 || len(vals) > 1 {
			return o, fmt.Errorf("%s=%s; wanted one number, 0 or more", key, strings.Join(vals, ","))
		}
		*p = v
	}
	if o.class > 9 {
		return o, fmt.Errorf("class=%d; wanted a digit, 0 to 9", o.class)
	}
	if o.n == 0 {
		return o, fmt.Errorf("n=0; wanted at least 1")
	}
	return o, nil
}

// choose lists the indices that the options keep.
func (o options) choose(labels []uint8) ([]int, error) {
	var idx []int
	for i, l := range labels {
		if o.class < 0 || int(l) == o.class {
			idx = append(idx, i)
		}
	}
	if o.from >= len(idx) {
		return nil, fmt.Errorf("from=%d; there are %d images", o.from, len(idx))
	}
	idx = idx[o.from:]
	if o.n > len(idx) {
		return nil, fmt.Errorf("n=%d; there are %d images from %d on", o.n, len(idx), o.from)
	}
	if o.n > 0 {
		idx = idx[:o.n]
	}
	return slices.Clip(idx), nil
}

type source struct {
	arg string
	set *Set
	idx []int
}

func (s *source) Describe() string { return fmt.Sprintf("mnist:%s (%d images)", s.arg, len(s.idx)) }

func (s *source) Len() int { return len(s.idx) }

func (s *source) Each(ctx context.Context, yield func(imageio.Item) error) error {
	name, _, _ := strings.Cut(s.arg, "?")
	for _, i := range s.idx {
		if err := ctx.Err(); err != nil {
			return err
		}
		item := imageio.Item{
			Name:  fmt.Sprintf("mnist:%s/%05d", name, i),
			Label: int(s.set.Labels[i]),
			Load:  func() (*imageio.Image, error) { return imageio.FromGray(s.set.Images[i], Width, Height, "idx"), nil },
		}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}
