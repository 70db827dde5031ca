package lion

import (
	"context"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/nn"
)

var tiny = Task{Name: "tiny", Train: Span{0, 500}, Val: Span{500, 700}, Width: 16, Steps: 40, Batch: 32, Seed: 1}

// A trainer makes the same of the same program, whatever came before, and the program
// AdamW trains like nn.Adam.
func TestTraining(t *testing.T) {
	tr, err := NewTrainer(tiny)
	if err != nil {
		t.Fatal(err)
	}
	run := func(p *Program) Score {
		s, err := tr.Run(context.Background(), graphOf(t, p))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	adam := AdamW(0.02, 0.9, 0.999, 1e-8, 0.01)
	first := run(adam)
	if first.Accuracy < 0.5 || first.Broken || first.Steps != tiny.Steps {
		t.Errorf("%+v; want more than half right after %d steps", first, tiny.Steps)
	}
	if nothing := run(must("update = g * 0")); nothing.Accuracy > 0.3 {
		t.Errorf("without training %+v", nothing)
	}
	if again := run(adam); again != first {
		t.Errorf("%+v, then %+v", first, again)
	}
	other, err := tr.RunBy(context.Background(), func(n *nn.Params) nn.Optimizer {
		return scaled{nn.NewAdam(n, nn.AdamOptions{Decay: 0.01}), 0.02}
	})
	if err != nil || other.Accuracy < first.Accuracy-0.01 || other.Accuracy > first.Accuracy+0.01 {
		t.Errorf("by nn.Adam %+v, %v, by the program %+v", other, err, first)
	}
	for text, most := range map[string]int{
		"update = g / 0": 1,
		"x = exp(w)\nupdate = log(g)\nx = dot(x, g)": 1, // of the zero gradients of unseen pixels
		"update = w * -1e30\nupdate = update + g":    3,
	} {
		if s := run(must(text)); !s.Broken || s.Steps > most || s.Fitness() != -1 {
			t.Errorf("%q: %+v, want it to end by step %d", text, s, most)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := tr.Run(ctx, graphOf(t, adam)); err == nil {
		t.Error("training goes on when it was broken off")
	}
}

type scaled struct {
	nn.Optimizer
	by float64
}

func (s scaled) Step(lr float64) { s.Optimizer.Step(s.by * lr) }

func TestTaskRefuses(t *testing.T) {
	for want, change := range map[string]func(*Task){
		"want none in both":           func(k *Task) { k.Val = Span{499, 600} },
		"judged by digits 700 to 700": func(k *Task) { k.Val = Span{700, 700} },
		"within 0 to 10000":           func(k *Task) { k.Test, k.Val = true, Span{9000, 10001} },
		"want a batch or more":        func(k *Task) { k.Train = Span{0, 31} },
		"to 60001":                    func(k *Task) { k.Train = Span{1000, 60001} },
		"width 0":                     func(k *Task) { k.Width = 0 },
		"0 steps":                     func(k *Task) { k.Steps = 0 },
	} {
		k := tiny
		change(&k)
		if _, err := NewJudge(k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	k := tiny
	k.Test, k.Val = true, Span{0, 500} // other digits than those with these numbers in train
	if err := k.Check(); err != nil {
		t.Error(err)
	}
}
