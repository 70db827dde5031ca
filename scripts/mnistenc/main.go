package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/tensor"
)

func main() {
	log := os.Stderr
	if err := run(os.Args[1:], log); err != nil {
		fmt.Fprintln(log, "mnistenc:", err)
		os.Exit(1)
	}
}

func run(args []string, log io.Writer) error {
	r := defaults
	f := flag.NewFlagSet("mnistenc", flag.ContinueOnError)
	f.SetOutput(log)
	out := f.String("o", "", "`file` to write, e.g. fid/extract/mnist.safetensors; an existing one is replaced")
	f.Uint64Var(&r.Seed, "seed", r.Seed, "seed of everything that is drawn")
	f.IntVar(&r.Epochs, "epochs", r.Epochs, "passes over the training set")
	f.Float64Var(&r.Rate, "rate", r.Rate, "largest step size of Adam")
	f.Float64Var(&r.Decay, "decay", r.Decay, "weight decay")
	f.Float64Var(&r.Smooth, "smooth", r.Smooth, "label smoothing")
	f.Float64Var(&r.Dropout, "dropout", r.Dropout, "dropout of the features before the head")
	f.Float64Var(&r.Shift, "shift", r.Shift, "augmentation: pixels")
	f.Float64Var(&r.Turn, "turn", r.Turn, "augmentation: degrees")
	f.Float64Var(&r.Zoom, "zoom", r.Zoom, "augmentation: share")
	if err := f.Parse(args); err != nil {
		return err
	}
	train, err := mnist.Load(mnist.Train)
	if err != nil {
		return err
	}
	test, err := mnist.Load(mnist.Test)
	if err != nil {
		return err
	}
	start := time.Now()
	t := newTrainer(r, train)
	t.run(log)
	acc := accuracy(t.w, test)
	fmt.Fprintf(log, "test accuracy %.2f %%, training accuracy %.2f %%, %s\n", 100*acc, 100*accuracy(t.w, train), time.Since(start).Round(time.Second))
	if *out == "" {
		return nil
	}
	return save(*out, t.w, r, acc)
}

// save writes the weights with what rebuilds them.
func save(path string, w *weights, r recipe, acc float64) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	meta := map[string]string{
		"name":          "mnist",
		"what":          "encoder of 28x28 digits, 64 features before the last rectifier; trained on MNIST train",
		"recipe":        string(text),
		"test_accuracy": fmt.Sprintf("%.4f", acc),
		"rebuild":       "go run -tags native ./scripts/mnistenc -o fid/extract/mnist.safetensors",
		"arithmetic":    arithmetic(),
		"input":         "1x28x28, luminance/255",
		"layers":        "conv1 3x3 pad 1, ReLU, max 2x2; conv2 the same; conv3 3x3 pad 1, ReLU; feat linear (features); ReLU, head linear (logits)",
	}
	ps, _ := params()
	var entries []tensor.SafetensorsEntry
	for _, p := range ps {
		entries = append(entries, tensor.SafetensorsEntry{Name: p.name, Array: tensor.FromF32(w.all[p.off:][:p.len], p.shape...)})
	}
	return tensor.WriteSafetensors(path, entries, meta, tensor.Overwrite)
}

// arithmetic names what multiplied the matrices: another library rounds
// differently, and training amplifies that to other weights of equal quality.
func arithmetic() string {
	for _, l := range cpu.Report() {
		if l.Name == "OpenBLAS" && l.Used {
			return l.Name + " " + l.Version + ", " + runtime.GOARCH
		}
	}
	return "pure Go, " + runtime.GOARCH
}
