package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

type exportOptions struct {
	average        float64
	half, early    bool
	log            string
	out            target
	index          string
	text, commands string
	page           string
}

func newModelsExport(a *app) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export RUN -o NAME.safetensors",
		Short: "Make a small checkpoint for others of a finished training run",
		Long: `Make a small checkpoint of a run of fidlab train, its folder or its checkpoint:
one average of the weights, without the optimiser, as float16 with --half; and in
its header the whole configuration, the hash of the data, and the log. fidlab
sample takes it as it takes the run's own.

--index F writes its entry into an index of assets: hash, size, the commands that
make it anew, data, seed, steps. What was measured of another file of that name
goes, and fidlab models record writes it anew; of the same bytes it stays. In this project's repository:
-o assets/NAME.safetensors --index assets/index.json, then make build generate.`,
		Example: `  fidlab models export runs/unet --half -o mine.safetensors
  fidlab models export runs/mnist-unet --average 0.999 --half -o assets/mnist-unet.safetensors --index assets/index.json`,
		Args: nargs("a run's folder or checkpoint", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(a, &o, args[0], cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	f.Float64Var(&o.average, "average", 0, "keep the average of decay `D`; 0: the weights themselves; default: the run's first average")
	f.BoolVar(&o.half, "half", false, "store what was trained as float16; the largest rounding error is said")
	f.StringVar(&o.log, "log", "", "keep the losses of the log `F`, or none; default: log.csv beside the checkpoint")
	f.BoolVar(&o.early, "early", false, "take a run that has not made all its steps")
	f.StringVarP(&o.out.path, "output", "o", "", "write `NAME.safetensors`")
	f.BoolVar(&o.out.overwrite, "overwrite", false, "replace the file")
	f.StringVar(&o.index, "index", "", "write the entry NAME into the index of assets `F.json`, which is made where there is none")
	f.StringVar(&o.text, "text", "", "--index: say what it is in `WORDS`; default: those of fidlab train --list")
	f.StringVar(&o.commands, "trained-by", "", "--index: it was trained by the `COMMAND`; default: as its settings say")
	f.StringVar(&o.page, "page", "", "--index: the page `F.md` of the repository tells more")
	f.SortFlags = false
	return cmd
}

func runExport(a *app, o *exportOptions, run string, given func(flag string) bool) error {
	name, isCheckpoint := strings.CutSuffix(filepath.Base(o.out.path), ".safetensors")
	switch {
	case o.out.path == "":
		return usagef("want -o NAME.safetensors, the file to write")
	case !isCheckpoint || name == "":
		return usagef("-o %s: want NAME.safetensors", o.out.path)
	case o.index == "" && (o.text != "" || o.commands != "" || o.page != ""):
		return usagef("--text, --trained-by and --page are of --index")
	}
	if err := o.out.check(); err != nil {
		return err
	}
	if st, err := os.Stat(run); err == nil && st.IsDir() {
		run = filepath.Join(run, train.CheckpointName)
	}
	saved, task, err := openAnySaved(run)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return inputf("%s: no such file; want the folder or the checkpoint of a run of fidlab train", run)
		}
		return &inputError{err}
	}
	defer saved.Close()
	if saved.Step < saved.Settings.Steps && !o.early {
		return inputf("%s: step %d of %d; finish it with fidlab train %s --resume, or take it as it is with --early", run, saved.Step, saved.Settings.Steps, saved.Job)
	}
	if !given("average") {
		o.average = saved.Averages()[0]
	}
	entry, index, err := o.prepare(task, saved, name) // all that can go wrong, before anything is written
	if err != nil {
		return err
	}
	log, err := o.readLog(run, saved.Step)
	if err != nil {
		return err
	}
	info, err := saved.Export(o.out.path, train.ExportOptions{Average: o.average, Half: o.half, Log: log}, o.out.options()...)
	if err != nil {
		return &inputError{err}
	}
	if err := o.record(&entry, info, index); err != nil {
		return err
	}
	a.say("%s: %d tensors, %d values, %s, %s, of step %d", o.out.path, info.Tensors, info.Count, averageText(o.average), bytesText(entry.Size), saved.Step)
	if o.half {
		a.say("%s: the largest rounding error is %.3g, of %.6g in %s", o.out.path, info.Rounding, info.Value, info.Tensor)
	}
	if a.json {
		return a.printJSON(entry)
	}
	a.printf("%s\n", o.out.path)
	return nil
}

func averageText(decay float64) string {
	if decay == 0 {
		return "the weights themselves"
	}
	return fmt.Sprintf("the average of decay %g", decay)
}

// prepare makes the entry, but for what the file itself says, and reads the index that it goes to; nil without --index.
func (o *exportOptions) prepare(task systems.Task, saved *train.Saved, name string) (assets.Entry, *assets.Index, error) {
	e := assets.Entry{
		Name: name, Kind: assets.Tower, Text: o.text, File: name + ".safetensors", Job: saved.Job, Seed: saved.Settings.Seeds.Init, Steps: saved.Step,
		Average: o.average, Storage: tensor.F32.String(), Figures: []assets.Figure{}, Doc: o.page,
	}
	if o.half {
		e.Storage = tensor.F16.String()
	}
	if e.Text == "" {
		e.Text = task.Text
	}
	if task.Open != nil {
		e.Kind = assets.Generator
		if _, err := task.Open(gpu.CPU(), saved, o.average); err != nil {
			return e, nil, &inputError{err}
		}
	}
	dir := "runs/" + name // whatever folder it was
	command := o.commands
	if command == "" {
		command = trainCommand(task, saved, dir)
	}
	e.Commands = []string{command, exportCommand(&e, dir)}
	var named bool
	if e.Data, named = dataOf(saved); o.index == "" {
		return e, nil, nil
	}
	if !named {
		return e, nil, inputf("%s: the configuration of %s names no data, which an index wants", saved.Path, saved.Job)
	}
	if !assets.ValidName(name) {
		return e, nil, usagef("-o %s: an index has names of small letters, digits and -", o.out.path)
	}
	x, err := openIndex(o.index)
	return e, x, err
}

// openIndex reads an index, or begins one.
func openIndex(path string) (*assets.Index, error) {
	x, err := assets.ReadIndex(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return assets.NewIndex(), nil
	case err != nil:
		return nil, &inputError{err}
	}
	return x, nil
}

// putEntry puts an entry into an index. What was measured of the same bytes stays, of what the entry does not measure itself.
func putEntry(x *assets.Index, e assets.Entry, path string) error {
	if old, ok := x.Lookup(e.Name); ok && old.SHA256 == e.SHA256 {
		own := e.Figures
		e.Figures = old.Figures
		for _, f := range own {
			e.Measured(f)
		}
	}
	x.Put(e)
	return x.Write(path)
}

// record completes the entry, and puts it into the index, where there is one.
func (o *exportOptions) record(e *assets.Entry, info *train.Exported, x *assets.Index) error {
	sum, err := tensor.FileSHA256(o.out.path)
	if err != nil {
		return err
	}
	st, err := os.Stat(o.out.path)
	if err != nil {
		return err
	}
	e.SHA256, e.Size, e.Rounding = sum, st.Size(), info.Rounding
	if x == nil {
		return nil
	}
	return putEntry(x, *e, o.index)
}

// dataOf is the data that a checkpoint names, if it does.
func dataOf(s *train.Saved) (d assets.Data, ok bool) {
	var c struct {
		Data struct {
			Name   string `json:"name"`
			SHA256 string `json:"sha256"`
		} `json:"data"`
	}
	err := json.Unmarshal(s.Config, &c)
	return assets.Data{Name: c.Data.Name, SHA256: c.Data.SHA256}, err == nil && c.Data.Name != ""
}

// trainCommand is the command line whose settings are those of the checkpoint.
func trainCommand(task systems.Task, saved *train.Saved, dir string) string {
	s, base := saved.Settings.Filled(), task.Settings.Filled()
	args := []string{"fidlab", "train", task.Name}
	add := func(flag, value string) { args = append(args, "--"+flag, value) }
	float := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	floats := func(v []float64) string {
		var out []string
		for _, e := range v {
			out = append(out, float(e))
		}
		return strings.Join(out, ",")
	}
	for _, n := range []struct {
		flag       string
		have, base int
	}{{"steps", s.Steps, base.Steps}, {"warmup", s.Warmup, base.Warmup}, {"batch", s.Batch, base.Batch}, {"accum", s.Accum, base.Accum}, {"skip", s.Skip, base.Skip}} {
		if n.have != n.base {
			add(n.flag, strconv.Itoa(n.have))
		}
	}
	for _, v := range []struct {
		flag       string
		have, base float64
	}{{"lr", s.Rate, base.Rate}, {"decay", s.Decay, base.Decay}, {"clip", s.Clip, base.Clip}} {
		if v.have != v.base {
			add(v.flag, float(v.have))
		}
	}
	for _, t := range []struct{ flag, have, base string }{{"schedule", s.Schedule, base.Schedule}, {"opt", s.Optimizer, base.Optimizer}, {"precision", s.Precision, base.Precision}} {
		if t.have != t.base {
			add(t.flag, t.have)
		}
	}
	for _, l := range []struct {
		flag       string
		have, base []float64
	}{{"betas", s.Betas, base.Betas}, {"ema", s.EMA, base.EMA}} {
		if !slices.Equal(l.have, l.base) {
			add(l.flag, floats(l.have))
		}
	}
	add("seed", strconv.FormatUint(s.Seeds.Init, 10))
	if s.Seeds.Data != s.Seeds.Init {
		add("data-seed", strconv.FormatUint(s.Seeds.Data, 10))
	}
	if s.Seeds.Noise != s.Seeds.Init {
		add("noise-seed", strconv.FormatUint(s.Seeds.Noise, 10))
	}
	add("dir", quote(dir))
	return strings.Join(args, " ")
}

// exportCommand is the command line that makes the file of a run's folder.
func exportCommand(e *assets.Entry, dir string) string {
	text := fmt.Sprintf("fidlab models export %s --average %g", quote(dir), e.Average)
	if e.Storage == tensor.F16.String() {
		text += " --half"
	}
	return text + " -o " + e.File
}

// maxLogLines is how many lines of a log an export keeps; they stand evenly.
const maxLogLines = 400

// readLog is the run's log.csv with numbers of six digits, thinned where it is long: what has a score stays. "" without one.
func (o *exportOptions) readLog(run string, step int) (string, error) {
	path := o.log
	switch path {
	case "none":
		return "", nil
	case "":
		path = filepath.Join(filepath.Dir(run), "log.csv")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", inputf("%s: no such file; name the run's log with --log F, or say --log none", path)
		}
		return "", &inputError{err}
	}
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(lines) < 2 || lines[0][0] != "step" {
		return "", inputf("%s: not the log of a training run (%v); name it with --log F, or say --log none", path, err)
	}
	if last, err := strconv.Atoi(lines[len(lines)-1][0]); err != nil || last > step {
		return "", inputf("%s: ends with step %s, the checkpoint is of step %d: it is the log of another run", path, lines[len(lines)-1][0], step)
	}
	return shortLog(lines), nil
}

// shortLog thins a log and its numbers.
func shortLog(lines [][]string) string {
	stride := (len(lines) - 1 + maxLogLines - 1) / maxLogLines
	held := slices.Index(lines[0], "held_out")
	var b strings.Builder
	w := csv.NewWriter(&b)
	for i, l := range lines {
		if i > 0 {
			keep := i%stride == 0 || i == len(lines)-1
			for k, cell := range l {
				v, err := strconv.ParseFloat(cell, 64)
				if err == nil && k > 1 {
					l[k] = strconv.FormatFloat(v, 'g', 6, 64)
				}
				keep = keep || k == held && cell != ""
			}
			if !keep {
				continue
			}
		}
		w.Write(l) // to memory
	}
	w.Flush()
	return b.String()
}
