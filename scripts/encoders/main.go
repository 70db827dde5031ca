package main

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "encoders:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, log io.Writer) error {
	f := flag.NewFlagSet("encoders", flag.ContinueOnError)
	f.SetOutput(log)
	out := f.String("o", "", "folder to write `NAME`.safetensors to, e.g. fid/extract/encoders; an existing one is replaced")
	seed := f.Uint64("seed", 0, "another seed than the recipe's")
	epochs := f.Int("epochs", 0, "another number of passes than the recipe's")
	tables := f.Bool("tables", false, "train nothing: print the tables of the built-in encoder")
	n := f.Int("n", 2048, "pictures of a damaged set in the tables")
	rank := f.Bool("rank", false, "train with three seeds and print the order of five corruptions under each")
	threads := f.Int("threads", 0, "workers; 0: one for each processor")
	if err := f.Parse(args); err != nil {
		return err
	}
	cpu.SetThreads(*threads)
	if f.NArg() == 0 {
		return fmt.Errorf("want names of encoders")
	}
	for _, name := range f.Args() {
		t, err := jobOf(name)
		if err != nil {
			return err
		}
		r := t.how()
		if *epochs > 0 {
			r.Epochs = *epochs
		}
		if *seed > 0 {
			r.Seed = *seed
		}
		switch {
		case *tables:
			err = t.printTables(*n, stdout)
		case *rank:
			err = t.printRanks(stdout, log)
		default:
			err = t.make(*out, log)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// job is an encoder that can be made and measured.
type job interface {
	how() *recipe
	make(folder string, log io.Writer) error
	printTables(n int, w io.Writer) error
	printRanks(w, log io.Writer) error
}

// jobOf is the encoder of that name.
func jobOf(name string) (job, error) {
	names := []string{extract.MotionName}
	if name == extract.MotionName {
		return newMotionJob(), nil
	}
	for _, t := range tasks {
		if t.name == name {
			return t, nil
		}
		names = append(names, t.name)
	}
	return nil, fmt.Errorf("no encoder %q; there are %q", name, names)
}

func (t *task) how() *recipe { return &t.recipe }

// make trains the encoder, prints what it answers and writes it to a folder.
func (t *task) make(folder string, log io.Writer) error {
	start := time.Now()
	s, err := t.open()
	if err != nil {
		return err
	}
	e, params, err := t.trained(s, t.recipe, log)
	if err != nil {
		return err
	}
	scores, _, err := s.scores(e, s.len(s.test))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("encoder of the generated set %s, trained on its split %s", t.set, s.train)
	return save(folder, t.name, what, t.spec(), t.recipe, scores, params, start, log)
}

// save prints what an encoder answers and writes it to a folder, if there is one.
func save(folder, name, what string, spec any, r recipe, scores []score, params *nn.Params, start time.Time, log io.Writer) error {
	for _, c := range scores {
		fmt.Fprintf(log, "%-14s right %.4f, all %.4f\n", c.Head, c.Right, c.All)
	}
	fmt.Fprintf(log, "%s: %d parameters, %s\n", name, params.Count(), time.Since(start).Round(time.Second))
	if folder == "" {
		return nil
	}
	meta := map[string]string{
		"what": what, "arithmetic": arithmetic(),
		"rebuild": "go run -tags native ./scripts/encoders -o fid/extract/encoders " + name,
	}
	if err := remark(meta, map[string]any{"encoder": spec, "recipe": r, "test": rounded(scores)}); err != nil {
		return err
	}
	path := filepath.Join(folder, name+".safetensors")
	if err := nn.Save(path, meta, []nn.Part{{Of: params}}, tensor.Overwrite); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "%s: %d bytes, SHA-256 %x\n", path, len(b), sha256.Sum256(b))
	return nil
}

// trained is the encoder that a recipe gives.
func (t *task) trained(s source, r recipe, log io.Writer) (*extract.Encoder, *nn.Params, error) {
	spec := t.spec()
	params, net, err := trainEncoder(spec, r, t.learn(s), log)
	if err != nil {
		return nil, nil, err
	}
	return extract.NewEncoder(spec, params, net, ""), params, nil
}

// remark adds values to remarks as JSON.
func remark(meta map[string]string, values map[string]any) error {
	for k, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		meta[k] = string(b)
	}
	return nil
}

// rounded are scores as the file has them: shares of right answers, in four decimals.
func rounded(scores []score) map[string]string {
	out := map[string]string{}
	for _, s := range scores {
		if s.All == s.All { // else all items have one answer
			out[s.Head] = fmt.Sprintf("%.4f", s.All)
		}
	}
	return out
}

// arithmetic names what multiplied the matrices: another library rounds differently, and training
// amplifies that to other weights of equal quality.
func arithmetic() string {
	what := "pure Go, "
	for _, l := range cpu.Report() {
		if l.Name == "oneDNN" && l.Used {
			return l.Name + " " + l.Version + ", " + runtime.GOARCH
		}
		if l.Name == "OpenBLAS" && l.Used {
			what = l.Name + " " + l.Version + ", "
		}
	}
	return what + runtime.GOARCH
}
