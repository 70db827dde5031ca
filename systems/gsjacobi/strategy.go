package gsjacobi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/models/flow"
)

// Start is what a block's iteration starts from.
type Start uint8

// The starts: the block's latent itself, or zeros but for the first token, which is known.
const (
	FromLatent Start = iota
	FromZeros
)

func (s Start) String() string {
	if s == FromZeros {
		return "zeros"
	}
	return "latent"
}

// Setting is how one block is solved.
type Setting struct {
	// Segments is into how many equal parts the tokens are cut, which are solved one after the other: 1 is Jacobi's iteration of the
	// whole, as many as there are tokens the sequential inverse, and so is 0.
	Segments int
	// Most is how many iterations a segment takes at most; 0: as many as make it exact. Fewer may leave it unfinished.
	Most  int
	Start Start
}

// MarshalText makes a setting text where it is written as JSON.
func (b Setting) MarshalText() ([]byte, error) { return []byte(Strategy{b}.String()), nil }

// Strategy is the settings of a flow's blocks in the order of sampling: the last block first.
type Strategy []Setting

// StrategyError is a strategy that does not fit a flow.
type StrategyError struct{ Detail string }

func (e *StrategyError) Error() string { return "gsjacobi: " + e.Detail }

func refuse(format string, args ...any) error { return &StrategyError{fmt.Sprintf(format, args...)} }

// Check says why a strategy does not fit a flow, a *StrategyError.
func (s Strategy) Check(c flow.Config) error {
	if len(s) != c.Blocks {
		return refuse("a strategy of %d blocks for a flow of %d; want a setting for each, the last block first", len(s), c.Blocks)
	}
	for i, b := range s {
		switch n := c.Tokens(); {
		case b.Segments < 0 || b.Segments > 0 && n%b.Segments != 0:
			return refuse("setting %d of the strategy has %d segments for %d tokens; want a divisor: %s, or 0 for token by token", i+1, b.Segments, n, divisorText(n))
		case b.Most < 0:
			return refuse("setting %d of the strategy has %d iterations; want at least 1", i+1, b.Most)
		}
	}
	return nil
}

// divisors of n, from 1 on.
func divisors(n int) (out []int) {
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			out = append(out, d)
		}
	}
	return out
}

func divisorText(n int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(divisors(n)), "[]"), " ", ", ")
}

// Uniform is one setting for all blocks of a flow.
func Uniform(c flow.Config, b Setting) Strategy { return slices.Repeat(Strategy{b}, c.Blocks) }

// ParseStrategy reads a strategy, settings with commas between them in the order of sampling. A setting is SEGMENTS or SEGMENTS:MOST,
// then perhaps :zeros or :latent, then perhaps *K for K blocks in a row: 8:32,1:10*7. The name of one of Presets stands for it.
func ParseStrategy(text string) (Strategy, error) {
	if p, ok := presets[text]; ok {
		text = p
	}
	var out Strategy
	for _, part := range strings.Split(text, ",") {
		b, times, err := parseSetting(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, slices.Repeat(Strategy{b}, times)...)
	}
	return out, nil
}

// mostBlocks is more than any flow has.
const mostBlocks = 1000

func parseSetting(part string) (b Setting, times int, err error) {
	bad := func() (Setting, int, error) {
		return b, 0, refuse("setting %q of a strategy; want SEGMENTS[:MOST][:zeros|:latent][*BLOCKS], such as 8:32, or one of the presets %s", part, strings.Join(Presets(), ", "))
	}
	text, repeat, repeated := strings.Cut(part, "*")
	times = 1
	if repeated {
		if times, err = strconv.Atoi(repeat); err != nil || times < 1 || times > mostBlocks {
			return bad()
		}
	}
	fields := strings.Split(text, ":")
	if last := fields[len(fields)-1]; last == FromZeros.String() || last == FromLatent.String() {
		if last == FromZeros.String() {
			b.Start = FromZeros
		}
		fields = fields[:len(fields)-1]
	}
	if len(fields) < 1 || len(fields) > 2 {
		return bad()
	}
	if b.Segments, err = strconv.Atoi(fields[0]); err != nil || b.Segments < 0 {
		return bad()
	}
	if len(fields) == 2 {
		if b.Most, err = strconv.Atoi(fields[1]); err != nil {
			return bad()
		}
		if b.Most < 1 {
			return b, 0, refuse("setting %q of a strategy has %d iterations; want at least 1", part, b.Most)
		}
	}
	return b, times, nil
}

// String is what ParseStrategy reads.
func (s Strategy) String() string {
	var out []string
	for i := 0; i < len(s); {
		k := i
		for k < len(s) && s[k] == s[i] {
			k++
		}
		text := strconv.Itoa(s[i].Segments)
		if s[i].Most > 0 {
			text += ":" + strconv.Itoa(s[i].Most)
		}
		if s[i].Start == FromZeros {
			text += ":zeros"
		}
		if k-i > 1 {
			text += "*" + strconv.Itoa(k-i)
		}
		out = append(out, text)
		i = k
	}
	return strings.Join(out, ",")
}

// presets are the strategies that the authors publish for their four flows of eight blocks; their repository starts every block from
// the latent there. The lists of AFHQ and ImageNet 128 are given by their first entries, which the rest repeats.
var presets = map[string]string{
	"afhq":         "8:32,1:10*7",
	"img128":       "1:10,8:32,1:10*6",
	"img64-uncond": "1:20,8:32,1:20*5,8:32",
	"img64-cond":   "8:13,1:6*6,0",
}

// Presets are the names of the published strategies.
func Presets() []string { return []string{"afhq", "img128", "img64-uncond", "img64-cond"} }
