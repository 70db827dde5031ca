package extract

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/tensor"
)

// CLIPText is the text tower of one of OpenAI's CLIPs: it turns texts into the
// vectors that those of its image tower are compared with.
type CLIPText struct {
	info    fid.ExtractorInfo
	table   []float32 // [vocab, width]
	places  []float32 // [context, width]
	vocab   int
	context int
	width   int
	net     *tower.Frozen
}

const (
	textBatch = 16 // texts that go through the tower together
	textLeast = 16 // tokens that they are padded to at least, for their bits to be the same in any company
)

// CLIPNames are the extractors that have a text tower.
func CLIPNames() []string {
	var names []string
	for _, s := range clipSizes {
		names = append(names, s.name)
	}
	return names
}

// OpenCLIPText opens the text tower of the CLIP with the given name, from the
// file that its image tower is read from.
func OpenCLIPText(name string, o Options) (*CLIPText, error) {
	for _, s := range clipSizes {
		if s.name != name {
			continue
		}
		c := s.c
		c.vocab, c.context = clipVocab, clipContext
		path, err := findFile(o, s.file)
		if err != nil {
			return nil, fmt.Errorf("extract: %s: %w", name, err)
		}
		t, err := c.openText(name, path)
		if err != nil {
			return nil, fmt.Errorf("extract: %s: %w", name, err)
		}
		return t, nil
	}
	return nil, fmt.Errorf("extract: no text tower of %q; there are %s", name, strings.Join(CLIPNames(), ", "))
}

func (c clipConfig) openText(name, path string) (*CLIPText, error) {
	s := c.textSpec(name)
	l, err := s.open(path)
	if err != nil {
		return nil, err
	}
	defer l.file.close()
	t := &CLIPText{
		info:  fid.ExtractorInfo{Name: s.name, SHA256: l.sha, Dim: c.embed, Precision: plan.F32.String(), Note: l.noteBut(tensor.F16)},
		table: l.get("token_embedding.weight"), places: l.get("positional_embedding"),
		vocab: c.vocab, context: c.context, width: c.text.width,
	}
	t.net = c.frozen(l, c.text, "", "ln_final", "text_projection", nil, true)
	return t, l.err
}

// Info says which tower and whose weights it is.
func (t *CLIPText) Info() fid.ExtractorInfo { return t.info }

// Context is the most ids that a text may have, its begin and end included.
func (t *CLIPText) Context() int { return t.context }

// Features writes the vectors of texts, Info().Dim values each, to out. ids are each text's,
// from its begin to its end, which is the token whose vector counts. A text's vector is the
// same bits whatever else is in the call.
func (t *CLIPText) Features(ids [][]int32, out []float32) error {
	d := t.info.Dim
	if len(out) != len(ids)*d {
		panic(fmt.Sprintf("extract: CLIPText: room for %d values of %d texts; want %d each", len(out), len(ids), d))
	}
	for i, text := range ids {
		if len(text) < 1 || len(text) > t.context {
			return fmt.Errorf("extract: text %d has %d ids, want 1 to %d", i, len(text), t.context)
		}
		for _, id := range text {
			if id < 0 || int(id) >= t.vocab {
				return fmt.Errorf("extract: text %d has the id %d, want 0 to %d", i, id, t.vocab-1)
			}
		}
	}
	var pool sync.Pool
	cpu.Each((len(ids)+textBatch-1)/textBatch, func(w *cpu.Worker, k int) {
		batch := ids[k*textBatch : min((k+1)*textBatch, len(ids))]
		x, _ := pool.Get().(*[]float32)
		if x == nil {
			x = new([]float32)
		}
		defer pool.Put(x)
		t.run(w, batch, x, out[k*textBatch*d:][:len(batch)*d])
	})
	return nil
}

func (t *CLIPText) run(w *cpu.Worker, batch [][]int32, x *[]float32, out []float32) {
	l := min(textLeast, t.context)
	for _, text := range batch {
		l = max(l, len(text))
	}
	n := len(batch) * l * t.width
	*x = slices.Grow((*x)[:0], n)[:n]
	clear(*x) // behind a text's end, which it does not see
	at := make([]int32, len(batch))
	for b, text := range batch {
		at[b] = int32(len(text) - 1)
		for i, id := range text {
			row := (*x)[(b*l+i)*t.width:][:t.width]
			place := t.places[i*t.width:][:t.width]
			for j, v := range t.table[int(id)*t.width:][:t.width] {
				row[j] = v + place[j]
			}
		}
	}
	t.net.Run(w, *x, len(batch), l, at, out)
}
